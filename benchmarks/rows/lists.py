"""Lists and single questions of the API, with much data and with little, and beside a bare view."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.test import override_settings
from django.utils import timezone

from benchmarks.table import bare_urls
from benchmarks.table.data import graph_of
from benchmarks.table.names import ADMIN, FEW, NONE
from benchmarks.table.row import Prepare, Row, Work, at_most, ratio
from benchmarks.table.stage import Stage
from workflows.models import Dag, Run

WIDE, NARROW = 500, 5  # tasks of a DAG
THIRD_PAGE = range(20, 31)  # of ten DAGs: the first ones have most of the runs


def asks(path: str, *, username: str = ADMIN) -> Prepare:
    """Return the preparation of `stage.many` requests of this path."""

    def prepare(stage: Stage) -> Work:
        stage.body(path, username=username)  # what the first request of a process costs is not measured

        def work() -> None:
            for _ in range(stage.many):
                stage.body(path, username=username)

        return work

    return prepare


def _of_one_run(path: str) -> Prepare:
    """Return the preparation of a request with the reference of a run in the middle of the data."""

    def prepare(stage: Stage) -> Work:
        middle = Run.objects.exclude(dag_id="bench").order_by("created_at").values("task_id", "dataset_id")[5_000]
        return asks(path.format(**middle))(stage)

    return prepare


def _paused(stage: Stage) -> Work:
    """The only paused runs are old, and none of their tasks is at work."""
    runs = stage.active_runs(3, tasks=0)
    old = timezone.now() - timedelta(days=200)
    Run.objects.filter(pk__in=[run.pk for run in runs]).update(paused=True, created_at=old)
    return asks("/api/v1/runs?paused=true")(stage)


def _foreign_workflow(stage: Stage) -> Work:
    return asks("/api/v1/runs?workflow=1", username=NONE)(stage)


def bare_view(path: str, *, accept_encoding: str = "") -> Prepare:
    """Return the preparation of a bare view that answers with the same bytes."""

    def prepare(stage: Stage) -> Work:
        client = stage.client()
        bare_urls.content = client.get(path, headers={"Accept-Encoding": accept_encoding}).getvalue()

        def work() -> None:
            with override_settings(ROOT_URLCONF=bare_urls.__name__):
                for _ in range(stage.many):
                    client.get(bare_urls.PATH).getvalue()

        return work

    return prepare


def _reading_view(stage: Stage) -> Work:
    """Ask a bare view that reads the same rows, for the same caller."""
    client = stage.client()

    def work() -> None:
        with override_settings(ROOT_URLCONF=bare_urls.__name__):
            for _ in range(stage.many):
                client.get(bare_urls.READING_PATH).getvalue()

    return work


def _with_tasks(path: str, count: int) -> Prepare:
    """Return the preparation of a list whose DAGs have this many tasks."""

    def prepare(stage: Stage) -> Work:
        graph = graph_of([f"task_{number}" for number in range(count)])
        Dag.objects.filter(pk__in=THIRD_PAGE).update(tasks=graph, doc_md="x" * count * 20)
        return asks(path)(stage)

    return prepare


def _flat(name: str, path: str) -> Row:
    return Row(
        name=f"{name}, DAGs with {WIDE} tasks",
        goals=(ratio("cpu", at_most=1.3),),
        subject=_with_tasks(path, WIDE),
        peer=_with_tasks(path, NARROW),
        peer_name=f"with {NARROW} tasks",
        many=5,
        seen="10 to 17 times the CPU",
    )


def _admin_page(path: str) -> Callable[[Stage], Work]:
    def prepare(stage: Stage) -> Work:
        stage.page(path)

        def work() -> None:
            for _ in range(stage.many):
                stage.page(path)

        return work

    return prepare


ROWS = [
    Row(
        name="GET /runs?task_id=",
        goals=(ratio(at_most=1.3),),
        subject=_of_one_run("/api/v1/runs?task_id={task_id}"),
        seen="90 to 180 times",
    ),
    Row(
        name="GET /runs?dataset_id=",
        goals=(ratio(at_most=1.3),),
        subject=_of_one_run("/api/v1/runs?dataset_id={dataset_id}"),
        seen="90 to 180 times",
    ),
    Row(
        name="GET /runs?search=",
        goals=(ratio(at_most=3),),
        subject=asks("/api/v1/runs?search=found nowhere"),
        seen="290 to 490 times",
    ),
    Row(
        name="GET /runs?state=stopped",
        goals=(ratio(at_most=1.5),),
        subject=asks("/api/v1/runs?state=stopped"),
        seen="65 to 320 times",
    ),
    Row(
        name="GET /runs?state=failed",
        goals=(ratio(at_most=1.5),),
        subject=asks("/api/v1/runs?state=failed"),
        seen="4 times",
    ),
    Row(name="GET /runs?paused=true", goals=(ratio(at_most=1.5),), subject=_paused, seen="65 to 320 times"),
    Row(
        name="GET /runs with rights on 3 of 5,000 workflows",
        goals=(ratio(at_most=1.5),),
        subject=asks("/api/v1/runs", username=FEW),
        seen="126 times",
    ),
    Row(
        name="GET /runs with rights on none of 5,000 workflows",
        goals=(ratio(at_most=1.5),),
        subject=asks("/api/v1/runs", username=NONE),
        seen="126 times",
    ),
    Row(
        name="GET /runs?workflow= without rights on it",
        goals=(ratio(at_most=1.5),),
        subject=_foreign_workflow,
        seen="35 times",
    ),
    Row(
        name="GET /events?after=0&type= (rare)",
        goals=(ratio(at_most=1.5),),
        subject=asks("/api/v1/events?after=0&type=workflow.stop_incomplete"),
        seen="24 times",
    ),
    Row(
        name="admin list of runs",
        goals=(ratio(at_most=1.5), at_most(60, "cpu")),
        subject=_admin_page("/admin/workflows/run/"),
        seen="45 to 80 times, 400 ms CPU",
    ),
    _flat("GET /workflows", "/api/v1/workflows?page=3&page_size=10"),
    _flat("GET /dags", "/api/v1/dags?page=3&page_size=10"),
    _flat("GET /runs", "/api/v1/runs?dag_id=dag_00021"),
    Row(
        name="GET /runs, 50 runs",
        goals=(at_most(8, "cpu"), ratio("cpu", at_most=2.5)),
        subject=asks("/api/v1/runs"),
        peer=bare_view("/api/v1/runs"),
        peer_name="a bare view with the same bytes",
        many=10,
        seen="26 ms CPU",
    ),
    Row(
        name="GET /runs, 50 runs, beside a view that reads them",
        goals=(ratio("cpu", at_most=2.5),),
        subject=asks("/api/v1/runs"),
        peer=_reading_view,
        peer_name="a bare view that authenticates, reads the same rows and dumps them",
        many=10,
        counts=False,
        seen="not measured",
    ),
]
