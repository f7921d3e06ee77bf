"""`/healthz`: the process answers. `/readyz`: everything that it needs does too."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone

from notifications import services as notifications
from svops.api import reads_only
from workflows import upstream
from workflows.airflow.errors import AirflowError
from workflows.models import AirflowState

BEAT_AGE_LIMIT = timedelta(seconds=15)


class NotReadyError(Exception):
    """A dependency is not fit for use; `str()` says how, without secrets."""


@reads_only
def healthz(request: HttpRequest) -> JsonResponse:
    """Alive."""
    return JsonResponse({"status": "ok"})


@reads_only
def readyz(request: HttpRequest) -> JsonResponse:
    """`{"status", "checks": {name: {"status", "latency_ms", …}}}`; 503 when one of the checks fails."""
    checks = {name: _timed(check) for name, check in CHECKS.items()}
    ready = all(check["status"] == "ok" for check in checks.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JsonResponse({"status": "ok" if ready else "unavailable", "checks": checks}, status=status)


def _timed(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        outcome = {"status": "ok", **check()}
    except (NotReadyError, DatabaseError, redis.RedisError, AirflowError) as exc:
        reason = str(exc) if isinstance(exc, NotReadyError | AirflowError) else type(exc).__name__
        outcome = {"status": "unavailable", "reason": reason}
    return {**outcome, "latency_ms": round((time.perf_counter() - started) * 1000, 1)}


def _database() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {"vendor": connection.vendor}


def _redis() -> dict[str, Any]:
    with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1) as client:
        client.ping()
    return {}


def _airflow() -> dict[str, Any]:
    # A prober waits, and behind an open circuit Airflow is left alone.
    if not upstream.is_closed():
        raise NotReadyError("it does not answer: the circuit is open")
    health = upstream.airflow(hurried=True).health()
    parts = {"metadatabase": health.metadatabase.status, "scheduler": health.scheduler.status}
    if bad := [name for name, status in parts.items() if status != "healthy"]:
        raise NotReadyError(f"not healthy: {', '.join(bad)}")
    return {"version": upstream.airflow(hurried=True).version()}


def _beat() -> dict[str, Any]:
    ticked_at = AirflowState.objects.values_list("ticked_at", flat=True).first()
    if ticked_at is None:
        raise NotReadyError("no tick yet: are beat and a worker running?")
    age = timezone.now() - ticked_at
    if age > BEAT_AGE_LIMIT:
        raise NotReadyError(f"the last tick was {age.total_seconds():.0f} s ago: are beat and a worker running?")
    return {"age_s": round(age.total_seconds(), 1)}


def _notifications() -> dict[str, Any]:
    limit = timedelta(seconds=settings.NOTIFICATION_OVERDUE)
    if late := notifications.overdue(now=timezone.now(), limit=limit):
        raise NotReadyError(f"{late} deliveries are overdue: are beat and a worker running?")
    return {"canary_at": notifications.canary_arrived_at()}


CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "database": _database,
    "redis": _redis,
    "airflow": _airflow,
    "beat": _beat,
    "notifications": _notifications,
}
