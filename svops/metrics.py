"""`/metrics` for Prometheus, read from the database: every web process answers the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime

import redis
from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from notifications.metrics import LedgerCollector
from rest.views import reads_only
from svops.shared import Shared
from workflows import gateway
from workflows.eventlog import publication
from workflows.models import Airflow, AirflowCommand, Event, Run
from workflows.states import OPEN, RunState
from workflows.watch import arrivals


class PlatformCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        airflows = {name: row for name, row in Airflow.by_name().items() if row.is_active}
        due = AirflowCommand.objects.filter(finished_at__isnull=True, due_at__lte=now, held=False)
        yield _open_runs(airflows)
        yield _each(
            "svops_airflow_up",
            "Whether Airflow answered the last call.",
            {name: row.reachable for name, row in airflows.items()},
        )
        yield _each(
            "svops_airflow_circuit_closed",
            "Whether the breaker lets calls to Airflow through.",
            {name: gateway.breaker_is_closed(name) for name in airflows},
        )
        yield _each(
            "svops_airflow_age_seconds",
            "Seconds since the last poll that Airflow answered: so old is what is known of it.",
            {name: _seconds_since(row.looked_at, now) for name, row in airflows.items()},
        )
        pushes = {name: push for name in airflows if (push := _last_push(name))}
        yield _each(
            "svops_listener_age_seconds",
            "Seconds since the last push of Airflow's listener.",
            {name: _seconds_since(push.at, now) for name, push in pushes.items()},
        )
        yield _each(
            "svops_listener_dropped",
            "Changes that the process of the last push has dropped since its start.",
            {name: push.dropped for name, push in pushes.items()},
        )
        age = _seconds_since(Airflow.objects.active().ticked_at(), now)
        yield _gauge("svops_beat_age_seconds", "Seconds since a worker did beat's last tick.", age)
        yield _each(
            "svops_commands_owed",
            "Commands to Airflow that are due and not finished.",
            dict.fromkeys(airflows, 0) | dict(due.order_by().values_list("airflow").annotate(Count("pk"))),
        )
        yield _gauge("svops_log_head", "Position of the newest event.", publication.head())
        unpublished = Event.objects.filter(position__isnull=True).count()
        yield _gauge("svops_events_unpublished", "Events that have no position yet.", unpublished)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _each(name: str, text: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with a value for each Airflow."""
    family = GaugeMetricFamily(name, text, labels=["airflow"])
    for airflow, value in values.items():
        family.add_metric([airflow], float(value))
    return family


def _last_push(airflow: str) -> arrivals.Arrival | None:
    with suppress(redis.RedisError):
        return arrivals.last(airflow)
    return None


def _seconds_since(at: datetime | None, now: datetime) -> float:
    return (now - at).total_seconds() if at else float("nan")


def _open_runs(airflows: Iterable[str]) -> Metric:
    family = GaugeMetricFamily("svops_runs_open", "Runs that have not ended, by state.", labels=["airflow", "state"])
    rows = Run.objects.open().order_by().values_list("airflow", "state").annotate(Count("pk"))
    counts = {(str(airflow), state): count for airflow, state, count in rows}
    # One that nothing is asked of may have open runs too.
    for airflow in dict.fromkeys([*airflows, *sorted(airflow for airflow, _ in counts)]):
        for state in RunState:
            if state in OPEN:
                family.add_metric([airflow, state.value], counts.get((airflow, state.value), 0))
    return family


@reads_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer counts, no user data. If METRICS_TOKEN is set, only its bearer gets them."""
    expected = f"Bearer {settings.METRICS_TOKEN}"
    if settings.METRICS_TOKEN and not constant_time_compare(request.headers.get("Authorization", ""), expected):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    return HttpResponse(_scraped.get(), content_type=CONTENT_TYPE_LATEST)


def _scrape() -> bytes:
    registry = CollectorRegistry()
    registry.register(PlatformCollector())
    registry.register(LedgerCollector())
    return generate_latest(registry)


_scraped = Shared(_scrape)
