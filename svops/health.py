"""`/healthz`: this process answers. `/readyz`: everything it needs works too.

With several Airflows, each has a check of its own. One that is down makes the whole `degraded`, which is no failure:
the others go on. With none that works, the whole is `unavailable`, as with a single one.

Everybody may ask `/readyz` and gets one word. All who ask at about the same time get the same answer, because the
checks ask Airflow. Administrators and the bearer of `READY_TOKEN` see each check.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, NoReturn

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from accounts.authentication import InvalidTokenError, authenticate_token, caller_of, token_in
from accounts.early_refusals import Application
from accounts.identity import Scope
from accounts.models import UNBOUNDED, User
from notifications import services as notifications
from rest.masking import mask
from rest.views import reads_only
from svops.headers import CONTENT_SECURITY_POLICY
from svops.shared import Shared
from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError
from workflows.models import Airflow
from workflows.naming import DEFAULT

BEAT_AGE_LIMIT = timedelta(seconds=15)
# So many Airflows are asked at the same time.
ASKED_AT_ONCE = 8
AIRFLOW = "airflow"

# What a check found, as fields of its answer.
Facts = dict[str, object]


class NotReadyError(Exception):
    """A dependency does not work; `str()` says why, without secrets."""


@reads_only
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer while the process lives."""
    return JsonResponse({"status": "ok"})


@reads_only
def readyz(request: HttpRequest) -> JsonResponse:
    """`{"status"}`, and for some `"checks": {name: {"status", "latency_ms", …}}`; 503 if `status` is `unavailable`."""
    checks = _checked.get()
    status, word = _bare(checks)
    details = {"checks": checks} if _may_see_details(request) else {}
    answer = JsonResponse({"status": word, **details}, status=status)
    # Django logs each 503 as an error. Here that would be a line for each question of anybody; the access log has one.
    answer._has_been_logged = True  # type: ignore[attr-defined]
    return answer


def _bare(checks: Mapping[str, Facts]) -> tuple[HTTPStatus, str]:
    failing = {name for name, check in checks.items() if check["status"] != "ok"}
    if not failing:
        return HTTPStatus.OK, "ok"
    airflows = {name for name in checks if name.partition(":")[0] == AIRFLOW}
    if failing < airflows:
        return HTTPStatus.OK, "degraded"
    return HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"


class Readiness:
    """Wraps Django. Answers those who ask `/readyz` without credentials itself, while the checks are fresh.

    This costs a fifth of an answer by Django, and anybody may ask as often as they like.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_asked = scope["path"].rstrip("/") == "/readyz" and scope["method"] == "GET" and not scope["query_string"]
        named = {name for name, _ in scope["headers"]} & {b"authorization", b"cookie"} if is_asked else set()
        checks = _checked.peek() if is_asked and not named else None
        if checks is None:
            await self._application(scope, receive, send)
            return
        status, word = _bare(checks)
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"status": word}).encode()})


def _may_see_details(request: HttpRequest) -> bool:
    header = request.headers.get("Authorization", "")
    if settings.READY_TOKEN and constant_time_compare(header, f"Bearer {settings.READY_TOKEN}"):
        return True
    try:
        if (token := token_in(header)) is not None:
            caller = authenticate_token(token)
        elif isinstance(request.user, User):
            caller = caller_of(request.user)
        else:
            return False
        return caller.may(Scope.USER_ADMIN) and caller.user.bounds == UNBOUNDED
    except (InvalidTokenError, DatabaseError):
        # Without a database nobody can be known.
        return False


def _check_all() -> dict[str, Facts]:
    database = _timed(_database)
    return {
        "database": database,
        "redis": _timed(_redis),
        **_airflows(_names() if database["status"] == "ok" else [DEFAULT]),
        "beat": _timed(_beat),
        "notifications": _timed(_notifications),
    }


_checked = Shared(_check_all)


def _timed(check: Callable[[], Facts]) -> Facts:
    started = time.perf_counter()
    try:
        outcome: Facts = {"status": "ok", **check()}
    except (NotReadyError, DatabaseError, redis.RedisError, AirflowError) as exc:
        reason = mask(str(exc)) if isinstance(exc, NotReadyError | AirflowError) else type(exc).__name__
        outcome = {"status": "unavailable", "reason": reason}
    return {**outcome, "latency_ms": round((time.perf_counter() - started) * 1000, 1)}


def _database() -> Facts:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"vendor": connection.vendor}


def _redis() -> Facts:
    with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1) as client:
        client.ping()
    return {}


def _airflows(names: Sequence[str]) -> dict[str, Facts]:
    """Check each of these Airflows, side by side: all together take no longer than the slowest one."""
    checks = {AIRFLOW if name == DEFAULT else f"{AIRFLOW}:{name}": _check_of(name) for name in names}
    if len(checks) <= 1:
        return {name: _timed(check) for name, check in checks.items()}
    with ThreadPoolExecutor(min(len(checks), ASKED_AT_ONCE)) as pool:
        return dict(zip(checks, pool.map(_timed, checks.values()), strict=True))


def _names() -> list[str]:
    try:
        return Airflow.active_names()
    except DatabaseError:
        return [DEFAULT]


def _check_of(name: str) -> Callable[[], Facts]:
    """Return the check, which needs no database: a thread of its own would open a connection for it."""
    try:
        return partial(_airflow, gateway.client_of(name, hurried=True), Airflow.named(name))
    except (DatabaseError, AirflowError) as exc:
        return partial(_failed, exc)


def _failed(exc: Exception) -> NoReturn:
    raise exc


def _airflow(client: AirflowClient, known: Airflow) -> Facts:
    # A prober waits for the answer; while the breaker is open, Airflow gets no calls.
    if not gateway.breaker_is_closed(client.name):
        raise NotReadyError("it does not answer: the breaker is open")
    health = client.health()
    parts = {"metadatabase": health.metadatabase.status, "scheduler": health.scheduler.status}
    if bad := [name for name, status in parts.items() if status != "healthy"]:
        raise NotReadyError(f"not healthy: {', '.join(bad)}")
    # These two questions need no credentials. What SVOps lives on does.
    version = client.version()
    if why := _why_not_polled(known):
        raise NotReadyError(why)
    return {"version": version}


def _why_not_polled(known: Airflow) -> str:
    """Return why what SVOps knows of its runs is old; "" if it is not, and before beat's first tick."""
    if known.ticked_at is None or not known.is_stale(timezone.now()):
        return ""
    if not known.reachable:
        return f"the last call failed: {known.last_error}"
    if known.looked_at is None:
        return "it has not been polled yet"
    return f"the last poll that succeeded was {(timezone.now() - known.looked_at).total_seconds():.0f} s ago"


def _beat() -> Facts:
    ticked_at = Airflow.objects.active().ticked_at()
    if ticked_at is None:
        raise NotReadyError("no tick yet: are beat and a worker running?")
    age = timezone.now() - ticked_at
    if age > BEAT_AGE_LIMIT:
        raise NotReadyError(f"the last tick was {age.total_seconds():.0f} s ago: are beat and a worker running?")
    return {"age_s": round(age.total_seconds(), 1)}


def _notifications() -> Facts:
    limit = timedelta(seconds=settings.NOTIFICATION_OVERDUE)
    if late := notifications.overdue(now=timezone.now(), limit=limit):
        raise NotReadyError(f"{late} deliveries are overdue: are beat and a worker running?")
    return {"canary_at": notifications.canary_arrived_at()}
