"""The Airflow behind us: the one client of this process, the breaker around it, and what we know of its health."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from http import HTTPStatus

import pybreaker
import redis
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from svops.errors import SVOpsError, UnavailableError
from workflows import events
from workflows.airflow import AirflowClient, Timeout
from workflows.airflow.errors import (
    AirflowAuthError,
    AirflowError,
    AirflowProtocolError,
    AirflowUnavailableError,
)
from workflows.models import AirflowCommand, AirflowState

logger = logging.getLogger(__name__)


@cache
def airflow(*, hurried: bool = False) -> AirflowClient:
    """The pooled, thread-safe client of this process; `hurried` is the one for while somebody waits."""
    read = settings.DISPATCH_BUDGET if hurried else settings.AIRFLOW_READ_TIMEOUT
    connect = min(read, settings.AIRFLOW_CONNECT_TIMEOUT)
    total = read if hurried else Timeout.total
    return AirflowClient(
        settings.AIRFLOW_URL,
        username=settings.AIRFLOW_USERNAME,
        password=settings.AIRFLOW_PASSWORD,
        timeout=Timeout(connect=connect, read=read, total=total),
    )


class _Storage(pybreaker.CircuitRedisStorage):
    """The library's, which alone of all its accesses lets this one fail when Redis is away: the first."""

    def _initialize_redis_state(self, state: str) -> None:
        with suppress(redis.RedisError):
            super()._initialize_redis_state(state)


@cache
def breaker() -> pybreaker.CircuitBreaker:
    """Shared by all processes through Redis. While Redis is away the circuit counts as closed: calls go through."""
    connection = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
    storage = _Storage(
        pybreaker.STATE_CLOSED, connection, namespace="svops:airflow", fallback_circuit_state=pybreaker.STATE_CLOSED
    )
    return pybreaker.CircuitBreaker(
        fail_max=settings.BREAKER_FAILURES,
        reset_timeout=settings.BREAKER_RESET,
        state_storage=storage,
        exclude=[_is_no_outage],
        name="airflow",
        throw_new_error_on_trip=False,
    )


def _is_no_outage(exc: BaseException) -> bool:
    """Whether Airflow has answered after all, or something else went wrong than Airflow."""
    return not isinstance(exc, AirflowUnavailableError | AirflowProtocolError)


@contextmanager
def watched(*, hurried: bool = False) -> Iterator[AirflowClient]:
    """The client, behind the breaker, noting on the way whether Airflow answers; errors pass through.

    One answer that says "not now" is no outage: whoever got it tries again. Several in a row open the circuit, and
    that is one. While it is open, raises `AirflowUnavailableError` without asking.
    """
    since = timezone.now()
    try:
        with breaker().calling():
            yield airflow(hurried=hurried)
    except pybreaker.CircuitBreakerError as exc:
        message = f"the circuit is open: Airflow is tried again after {settings.BREAKER_RESET:g} s"
        if answers():
            # Whoever opened it has died before it could say so.
            note_down(reason=message, since=since, now=timezone.now())
        raise AirflowUnavailableError(message, sent=False) from exc
    except AirflowError as exc:
        if _is_outage(exc):
            note_down(reason=str(exc), since=since, now=timezone.now())
        raise


def _is_outage(exc: AirflowError) -> bool:
    """Whether a call that ended so means that there is no Airflow for us: no answer, no entry, or one time too many."""
    no_answer = isinstance(exc, AirflowUnavailableError) and exc.status is None
    if no_answer or isinstance(exc, AirflowAuthError):
        return True
    return not _is_no_outage(exc) and not is_closed()


def is_closed() -> bool:
    """Whether the circuit lets calls through."""
    return breaker().current_state != pybreaker.STATE_OPEN


def answers() -> bool:
    """Whether Airflow answered when it was last asked."""
    return AirflowState.current().reachable


@transaction.atomic
def note_down(*, reason: str, now: datetime, since: datetime | None = None) -> None:
    """Record that Airflow does not answer a call made at `since`, else `now`; the first to notice tells it.

    A call that hung in an outage may fail after it: when a later look was answered, that is old news.
    """
    AirflowState.current()
    if AirflowState.objects.filter(looked_at__gt=since or now).exists():
        return
    if AirflowState.objects.filter(reachable=True).update(reachable=False, last_error=reason):
        logger.warning("Airflow does not answer", extra={"reason": reason})
        events.record(events.AirflowDown(reason=reason), now=now)
    else:
        AirflowState.objects.update(last_error=reason)


@transaction.atomic
def note_up(*, version: str, now: datetime) -> None:
    """Record that Airflow answers again; the first to notice tells it."""
    if AirflowState.objects.filter(reachable=False).update(reachable=True, version=version, last_error=""):
        logger.info("Airflow answers again", extra={"version": version})
        # What waited out a pause after a failure need wait no longer.
        AirflowCommand.objects.filter(finished_at__isnull=True, attempts__gt=0, due_at__gt=now).update(due_at=now)
        events.record(events.AirflowUp(version=version), now=now)


class UpstreamError(SVOpsError):
    """Airflow answered with something unexpected, or refuses us."""

    code = "upstream_error"
    http_status = HTTPStatus.BAD_GATEWAY


@contextmanager
def translated() -> Iterator[None]:
    """Turn the client's errors into ours, for edges that ask Airflow while their caller waits."""
    try:
        yield
    except AirflowUnavailableError as exc:
        raise UnavailableError(f"Airflow does not answer: {exc}") from exc
    except AirflowError as exc:
        raise UpstreamError(f"Airflow refuses: {exc}") from exc
