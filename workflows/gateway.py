"""The way to each Airflow: the clients of this process, the breaker around them, and what is known of its health.

Each Airflow has clients, connections and a breaker of its own, so that one that is down or slow takes none of another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from http import HTTPStatus

import pybreaker
import redis
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from rest.errors import BusyError, SVOpsError, UnavailableError
from rest.masking import mask
from workflows import rights, way_in
from workflows.airflow import Access, AirflowClient, Timeout
from workflows.airflow.errors import (
    AirflowAuthError,
    AirflowBusyError,
    AirflowError,
    AirflowForbiddenError,
    AirflowLimitError,
    AirflowProtocolError,
    AirflowUnavailableError,
)
from workflows.eventlog import events
from workflows.models import Airflow, AirflowCommand
from workflows.naming import DEFAULT

logger = logging.getLogger(__name__)


class Purpose(StrEnum):
    """What a call to Airflow is for. Each has connections of its own, so that none can take those of another."""

    CONTROL = "control"
    LOOKS = "looks"
    LOGS = "logs"


def client_of(airflow: str, *, hurried: bool = False, purpose: Purpose = Purpose.LOOKS) -> AirflowClient:
    """Return a pooled, thread-safe client of this process. `hurried` is for calls while a caller waits.

    Raises `AirflowUnavailableError` if there is no active Airflow of that name, or if its way in cannot be read. The
    way to a further one is in the database, so a thread without a connection of its own is given the client.
    """
    return pooled_client(airflow, way_in.access(airflow), hurried, purpose)


@lru_cache(maxsize=200)
def pooled_client(airflow: str, access: Access, hurried: bool, purpose: Purpose) -> AirflowClient:
    read = settings.DISPATCH_BUDGET if hurried else settings.AIRFLOW_READ_TIMEOUT
    total = read if hurried else Timeout.total
    is_patient = purpose == Purpose.LOGS and not hurried
    return AirflowClient(
        access,
        name=airflow,
        keeper=way_in.keeper(access),
        pace=way_in.pace(access),
        timeout=Timeout(
            connect=min(read, settings.AIRFLOW_CONNECT_TIMEOUT),
            read=read,
            total=total,
            log_read=settings.AIRFLOW_LOG_READ_TIMEOUT if is_patient else read,
            log_total=settings.AIRFLOW_LOG_TOTAL_TIMEOUT if is_patient else total,
            slot=settings.AIRFLOW_POOL_WAIT,
        ),
        pool_size=_pool_size(purpose),
    )


def separate(airflow: str) -> AirflowClient:
    """Return a client with one connection of its own, for checks: what it asks opens no breaker. Close it."""
    access = way_in.access(airflow)
    return AirflowClient(
        access,
        name=airflow,
        keeper=way_in.keeper(access),
        pace=way_in.pace(access),
        timeout=Timeout(connect=settings.AIRFLOW_CONNECT_TIMEOUT, read=settings.AIRFLOW_READ_TIMEOUT),
        pool_size=1,
    )


def _pool_size(purpose: Purpose) -> int:
    sizes = {
        Purpose.CONTROL: settings.AIRFLOW_POOL_CONTROL,
        Purpose.LOOKS: settings.AIRFLOW_POOL_LOOKS,
        Purpose.LOGS: settings.AIRFLOW_POOL_LOGS,
    }
    return int(sizes[purpose])


@cache
def _slots(airflow: str, purpose: Purpose) -> threading.BoundedSemaphore:
    return threading.BoundedSemaphore(_pool_size(purpose))


@contextmanager
def _slot(airflow: str, purpose: Purpose) -> Iterator[None]:
    """Hold one of our own connections. Waiting for it is no outage, so this comes before the breaker."""
    slots = _slots(airflow, purpose)
    if not slots.acquire(timeout=settings.AIRFLOW_POOL_WAIT):
        raise AirflowBusyError(f"all {_pool_size(purpose)} connections for {purpose} are in use")
    try:
        yield
    finally:
        slots.release()


class _Storage(pybreaker.CircuitRedisStorage):
    """The storage of the library, which handles a missing Redis everywhere but in its first access."""

    def _initialize_redis_state(self, state: str) -> None:
        with suppress(redis.RedisError):
            super()._initialize_redis_state(state)


@cache
def breaker(airflow: str) -> pybreaker.CircuitBreaker:
    """Return the breaker that all processes share through Redis. Without Redis it is closed: calls go through."""
    connection = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
    namespace = "svops:airflow" if airflow == DEFAULT else f"svops:airflow:{airflow}"
    storage = _Storage(
        pybreaker.STATE_CLOSED, connection, namespace=namespace, fallback_circuit_state=pybreaker.STATE_CLOSED
    )
    return pybreaker.CircuitBreaker(
        fail_max=settings.BREAKER_FAILURES,
        reset_timeout=settings.BREAKER_RESET,
        state_storage=storage,
        exclude=[_is_no_outage],
        name=airflow,
        throw_new_error_on_trip=False,
    )


def _is_no_outage(exc: BaseException) -> bool:
    """Return whether Airflow has answered after all, or the fault is not Airflow's."""
    if isinstance(exc, AirflowBusyError):
        return True
    return not isinstance(exc, AirflowUnavailableError | AirflowProtocolError)


@contextmanager
def watched(airflow: str, *, hurried: bool = False, purpose: Purpose = Purpose.LOOKS) -> Iterator[AirflowClient]:
    """Give the client, behind its breaker, and record when a call shows that Airflow is down. Errors pass through.

    If all connections for this purpose stay in use, this raises `AirflowBusyError`, which counts for nothing.
    One answer that says "not now" is no outage: the caller tries again. Several in a row open the breaker, and that
    is an outage. While the breaker is open, this raises `AirflowUnavailableError` without a call.
    """
    with _slot(airflow, purpose):
        yield from _behind_the_breaker(airflow, hurried, purpose)


def _behind_the_breaker(airflow: str, hurried: bool, purpose: Purpose) -> Iterator[AirflowClient]:
    since = timezone.now()
    try:
        client = client_of(airflow, hurried=hurried, purpose=purpose)
        with breaker(airflow).calling():
            yield client
    except pybreaker.CircuitBreakerError as exc:
        message = f"the breaker is open: Airflow is tried again after {settings.BREAKER_RESET:g} s"
        if answers(airflow):
            # The process that opened it died before it could record the outage.
            record_down(airflow, reason=message, since=since, now=timezone.now())
        raise AirflowUnavailableError(message, sent=False) from exc
    except AirflowForbiddenError as exc:
        rights.record_refused(airflow, exc)
        raise
    except AirflowError as exc:
        if _is_outage(airflow, exc):
            record_down(airflow, reason=str(exc), since=since, now=timezone.now())
        raise


@contextmanager
def patient(client: AirflowClient) -> Iterator[AirflowClient]:
    """Yield a client that is for logs. A large or slow log says nothing about Airflow: the breaker counts no such call.

    Without a call, this raises `AirflowUnavailableError` while the breaker is open, and `AirflowBusyError` if all
    connections for logs stay in use. It touches no database.
    """
    if not breaker_is_closed(client.name):
        raise AirflowUnavailableError("the breaker is open", sent=False)
    with _slot(client.name, Purpose.LOGS):
        yield client


def _is_outage(airflow: str, exc: AirflowError) -> bool:
    """Return whether this error means an outage: no answer, refused credentials, or an open breaker.

    A missing right is none (`AirflowForbiddenError`), unless a poll needs it, which then sees nothing.
    """
    if isinstance(exc, AirflowBusyError | way_in.InactiveError):
        return False
    no_answer = isinstance(exc, AirflowUnavailableError) and exc.status is None
    if no_answer or isinstance(exc, AirflowAuthError):
        return True
    return not _is_no_outage(exc) and not breaker_is_closed(airflow)


def breaker_is_closed(airflow: str) -> bool:
    """Return whether the breaker lets calls to this Airflow through."""
    return breaker(airflow).current_state != pybreaker.STATE_OPEN


def answers(airflow: str) -> bool:
    """Return whether this Airflow is active and answered the last call."""
    row = Airflow.named(airflow)
    return row.is_active and row.reachable


@transaction.atomic
def record_down(airflow: str, *, reason: str, now: datetime, since: datetime | None = None) -> None:
    """Record that it did not answer a call made at `since`, or else `now`. Only the first call records an event.

    A call that hung in an outage may fail when the outage has ended. If a later poll was answered, it is ignored.
    """
    reason = mask(reason)
    its = Airflow.objects.filter(pk=Airflow.named(airflow).pk)
    if its.filter(looked_at__gt=since or now).exists():
        return
    if its.filter(reachable=True).update(reachable=False, last_error=reason):
        logger.warning("Airflow does not answer", extra={"airflow": airflow, "reason": reason})
        events.record(events.AirflowDown(airflow=airflow, reason=reason), now=now)
    else:
        its.update(last_error=reason)


@transaction.atomic
def record_up(airflow: str, *, version: str, now: datetime) -> None:
    """Record that an Airflow answers, and its version. Only the first call after an outage records an event."""
    its = Airflow.objects.filter(name=airflow)
    if not its.filter(Q(reachable=False) | ~Q(version=version)).exists():
        return
    if its.filter(reachable=False).update(reachable=True, version=version, last_error=""):
        logger.info("Airflow answers again", extra={"airflow": airflow, "version": version})
        # Commands that wait for their next attempt do not have to wait any longer.
        waiting = AirflowCommand.objects.pending().filter(airflow__name=airflow, attempts__gt=0, due_at__gt=now)
        waiting.update(due_at=now)
        events.record(events.AirflowUp(airflow=airflow, version=version), now=now)
    else:
        its.update(version=version)


class UpstreamError(SVOpsError):
    """Airflow answered with something unexpected, or refused the request."""

    code = "upstream_error"
    http_status = HTTPStatus.BAD_GATEWAY


@contextmanager
def translated(airflow: str) -> Iterator[None]:
    """Turn the client's errors into ours, at edges that call this Airflow while their caller waits."""
    try:
        yield
    except AirflowBusyError as exc:
        raise BusyError(f"SVOps is busy: {exc}. Try again.") from exc
    except AirflowUnavailableError as exc:
        raise UnavailableError(f"{Airflow.called(airflow)} does not answer: {exc}") from exc
    except (AirflowForbiddenError, AirflowLimitError) as exc:
        raise UpstreamError(f"{exc}.") from exc
    except AirflowError as exc:
        raise UpstreamError(f"{Airflow.called(airflow)} refuses: {exc}") from exc
