"""`/metrics` for Prometheus: read from the database at each scrape, so every web process tells the same."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from notifications.metrics import LedgerCollector
from svops.api import reads_only
from workflows import outbox, upstream
from workflows.models import AirflowCommand, AirflowState, Event, Run
from workflows.states import OPEN, RunState


class PlatformCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        airflow = AirflowState.current()
        age = (now - airflow.ticked_at).total_seconds() if airflow.ticked_at else float("nan")
        owed = AirflowCommand.objects.filter(finished_at__isnull=True, due_at__lte=now, held=False)
        yield _open_runs()
        yield _gauge("svops_airflow_up", "Whether Airflow answered when it was last asked.", airflow.reachable)
        yield _gauge("svops_airflow_circuit_closed", "Whether calls to Airflow go through.", upstream.is_closed())
        yield _gauge("svops_beat_age_seconds", "Seconds since beat's last tick was carried out.", age)
        yield _gauge("svops_commands_owed", "Triggers, stops and clears due and not carried out.", owed.count())
        yield _gauge("svops_log_head", "Position of the newest event.", outbox.head())
        unpublished = Event.objects.filter(position__isnull=True).count()
        yield _gauge("svops_events_unpublished", "Events that have no position yet.", unpublished)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _open_runs() -> Metric:
    family = GaugeMetricFamily("svops_runs_open", "Runs that have not ended, by state.", labels=["state"])
    counts = dict(Run.objects.open().order_by().values_list("state").annotate(Count("pk")))
    for state in RunState:
        if state in OPEN:
            family.add_metric([state.value], counts.get(state.value, 0))
    return family


@reads_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Counts only, nothing of anybody's; with METRICS_TOKEN set, for its bearer alone."""
    expected = f"Bearer {settings.METRICS_TOKEN}"
    if settings.METRICS_TOKEN and not constant_time_compare(request.headers.get("Authorization", ""), expected):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry()
    registry.register(PlatformCollector())
    registry.register(LedgerCollector())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
