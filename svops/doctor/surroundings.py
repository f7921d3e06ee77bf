"""The checks of everything but Airflow: database, Redis, worker and beat, mail server, receivers of messages."""

from __future__ import annotations

import smtplib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.mail import get_connection
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from notifications.attempts import client
from notifications.models import NotificationConfig
from notifications.outgoing import NoAnswerError, RefusedError
from notifications.transports import CHANNELS
from notifications.transports.base import InvalidTargetError
from rest.sealing import UnsealableError
from svops.doctor.findings import Faulty, Finding, Outcome, Progress, timed
from workflows.models import Airflow

BEAT_AGE = timedelta(seconds=15)
# Seconds for a connection to a receiver.
TIMEOUT = 5.0
MOST_RECEIVERS = 50


def checks(progress: Progress) -> Iterator[Finding]:
    for part, check, look in (
        ("SVOps", "database", database),
        ("SVOps", "Redis", redis_server),
        ("SVOps", "worker and beat", beat),
        ("Messages", "mail server", mail_server),
    ):
        progress(check)
        yield _checked(part, check, look, needed=part == "SVOps")
    yield from receivers(progress)


def _checked(part: str, check: str, look: Callable[[], str], *, needed: bool = True) -> Finding:
    outcome, found, mend = Outcome.WORKS, "", ""
    with timed() as watch:
        try:
            found = look()
        except Faulty as exc:
            outcome, found, mend = exc.outcome, str(exc), exc.mend
    return Finding(part=part, check=check, outcome=outcome, found=found, mend=mend, needed=needed, ms=watch.ms)


def database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as exc:
        raise Faulty(f"it does not answer: {type(exc).__name__}", "Start it, or mend DATABASE_URL.") from exc
    if plan:
        raise Faulty(f"{len(plan)} migrations are missing", "Run manage.py migrate.")
    return str(connection.vendor)


def redis_server() -> str:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=2) as client:
            client.ping()
    except redis.RedisError as exc:
        mend = "Start it, or mend REDIS_URL. Without it nothing is lost, but everything is slower."
        raise Faulty(f"it does not answer: {type(exc).__name__}", mend) from exc
    return ""


def beat() -> str:
    try:
        ticked_at = Airflow.objects.active().ticked_at()
    except DatabaseError as exc:
        raise Faulty("the database does not answer", outcome=Outcome.UNTRIED) from exc
    mend = "Start beat and a worker."
    if ticked_at is None:
        raise Faulty("beat has never ticked", mend)
    age = timezone.now() - ticked_at
    if age > BEAT_AGE:
        raise Faulty(f"the last tick was {age.total_seconds():.0f} s ago", mend)
    return f"the last tick was {age.total_seconds():.0f} s ago"


def mail_server() -> str:
    """Connect to the mail server and sign in, without a mail."""
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        raise Faulty("mails go elsewhere here", outcome=Outcome.UNTRIED)
    mail = get_connection(timeout=TIMEOUT)
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        mail.open()
        mail.close()
    except smtplib.SMTPAuthenticationError as exc:
        raise Faulty(f"{where} refuses EMAIL_HOST_USER", "Mend EMAIL_HOST_USER and EMAIL_HOST_PASSWORD.") from exc
    except (OSError, smtplib.SMTPException) as exc:
        if settings.EMAIL_HOST == "localhost" and not _sends_mail():
            raise Faulty("no mail server is set, and no message goes by mail", outcome=Outcome.ABSENT) from exc
        mend = "Set EMAIL_HOST and EMAIL_PORT."
        raise Faulty(f"{where} does not answer: {type(exc).__name__}", mend) from exc
    return where


def _sends_mail() -> bool:
    try:
        return NotificationConfig.objects.filter(enabled=True, deleted_at=None, channel="email").exists()
    except DatabaseError:
        return False


def receivers(progress: Progress) -> Iterator[Finding]:
    """Connect to each host that messages go to, once, and send nothing. Apprise only reads its URLs."""
    try:
        configs = list(NotificationConfig.objects.filter(enabled=True, deleted_at=None)[: MOST_RECEIVERS + 1])
    except DatabaseError:
        yield Finding(
            part="Messages",
            check="receivers",
            outcome=Outcome.UNTRIED,
            found="the database does not answer",
            needed=False,
        )
        return
    urls: dict[str, str] = {}
    names: defaultdict[str, list[str]] = defaultdict(list)
    for config in configs[:MOST_RECEIVERS]:
        if config.channel not in {"slack", "webhook", "apprise"}:
            continue  # mail has a server of its own
        try:
            url = config.target
        except UnsealableError as exc:
            mend = "Put the key back that sealed it (SECRET_KEYS), or enter the target again."
            yield _of_receiver(config.name, Outcome.WRONG, str(exc), mend)
            continue
        if config.channel == "apprise":
            progress(config.name)
            yield _accepted(config.name, url)
            continue
        # The rest of the URL is a secret.
        host = urlsplit(url).netloc
        urls[host] = url
        names[host].append(config.name)
    for host, url in urls.items():
        progress(host)
        yield _reached(host, url, names[host])


def _accepted(name: str, url: str) -> Finding:
    """Let Apprise read its URL, which names no host that could be asked without sending something."""
    transport = CHANNELS["apprise"]
    with timed() as watch:
        try:
            transport.clean(url, client())
        except InvalidTargetError as exc:
            return _of_receiver(name, Outcome.WRONG, str(exc), f"Mend the target of {name}.")
    return _of_receiver(name, Outcome.WORKS, f"Apprise reads {transport.mask(url)}; nothing was sent", ms=watch.ms)


def _reached(host: str, url: str, names: list[str]) -> Finding:
    who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    error = ""
    with timed() as watch:
        try:
            replace(client(), timeout=TIMEOUT).reach(url)
        except (RefusedError, NoAnswerError) as exc:
            error = str(exc)
    if not error:
        return _of_receiver(host, Outcome.WORKS, who, ms=watch.ms)
    return _of_receiver(host, Outcome.WRONG, error, f"Mend the target of {who}, or the network between.", ms=watch.ms)


def _of_receiver(check: str, outcome: Outcome, found: str, mend: str = "", *, ms: float | None = None) -> Finding:
    return Finding(part="Messages", check=check, outcome=outcome, found=found, mend=mend, needed=False, ms=ms)
