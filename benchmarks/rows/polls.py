"""Looks at Airflow: while nothing changes, when some runs change, the sweep, and the sync of DAGs."""

from __future__ import annotations

from django.utils import timezone

from benchmarks.table.airflow import dag_json
from benchmarks.table.row import QUERIES, REQUESTS, Prepare, Row, Work, at_most
from benchmarks.table.stage import Stage
from workflows import gateway
from workflows.models import Dag, Run
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.watch import dags, poll, sweeps

MANY, FEW = 10_000, 1_000
COUNTED = 300


def _poll(stage: Stage) -> None:
    assert poll.tick(DEFAULT, now=timezone.now())


def _nothing_changes(count: int) -> Prepare:
    """Return the preparation of a poll: all runs are at work, and Airflow's heartbeats have touched each row."""

    def prepare(stage: Stage) -> Work:
        stage.active_runs(stage.size(count, COUNTED))
        stage.airflow_answers()
        _poll(stage)
        stage.airflow.control(touch=True)
        return lambda: _poll(stage)

    return prepare


def _some_end(stage: Stage) -> Work:
    """A twentieth of the runs has ended since the last poll."""
    runs = stage.active_runs(stage.many * 20)
    stage.airflow_answers()
    _poll(stage)
    ended = runs[:: len(runs) // stage.many]
    stage.end_in_airflow(ended)

    def work() -> None:
        _poll(stage)
        assert Run.objects.filter(pk__in=[run.pk for run in ended], state=RunState.SUCCESS).count() == stage.many

    return work


def _sweep(count: int) -> Prepare:
    def prepare(stage: Stage) -> Work:
        stage.active_runs(stage.size(count, COUNTED))
        stage.airflow_answers()
        _poll(stage)
        stage.airflow.control(touch=True)

        def work() -> None:
            with gateway.watched(DEFAULT) as client:
                sweeps.sweep(client, now=timezone.now())

        return work

    return prepare


def _sync(stage: Stage) -> Work:
    """A sync after one that has read everything."""
    known = Dag.objects.values_list("dag_id", "tasks")
    stage.airflow.control(dags={dag_id: dag_json(dag_id, [t["task_id"] for t in tasks]) for dag_id, tasks in known})
    dags.sync_dags(DEFAULT, now=timezone.now())

    def work() -> None:
        dags.sync_dags(DEFAULT, now=timezone.now())

    return work


def _mapped_begin(stage: Stage) -> Work:
    """Instances of one mapped task begin between two polls."""
    run = stage.active_runs(1)[0]
    stage.airflow_answers()
    _poll(stage)
    start = timezone.now().isoformat()
    rows = [
        stage.in_airflow(run, "mapped", "running", start=start, index=index, updated_at=start)
        for index in range(stage.many)
    ]
    stage.airflow.control(tasks=rows)

    def work() -> None:
        _poll(stage)
        assert run.tasks.filter(task_id="mapped", state="running").count() == stage.many

    return work


ROWS = [
    Row(
        name=f"a poll in which nothing changes, {MANY:,} runs at work",
        goals=(at_most(1000, "cpu"), at_most(20, REQUESTS)),
        subject=_nothing_changes(MANY),
        peer=_nothing_changes(FEW),
        peer_name=f"with {FEW:,} runs",
        rounds=2,
        seen="200 requests, 21.8 MB, 5.4 s CPU",
    ),
    Row(
        name="a poll in which 5% of 1,000 runs ended, per ended run",
        goals=(at_most(3, QUERIES), at_most(5, "cpu")),
        subject=_some_end,
        peer=_some_end,
        peer_name="the same with little data",
        many=50,
        counted=10,
        rounds=4,
        seen="21 queries, 20 ms CPU",
    ),
    Row(
        name=f"the sweep, {MANY:,} runs at work",
        goals=(at_most(1000, "cpu"), at_most(20, REQUESTS)),
        subject=_sweep(MANY),
        peer=_sweep(FEW),
        peer_name=f"with {FEW:,} runs",
        rounds=2,
        seen="110 requests, 129 MB, 12.7 s CPU",
    ),
    Row(
        name="sync of 1,000 DAGs of which none has changed",
        goals=(at_most(15, REQUESTS), at_most(15, QUERIES)),
        subject=_sync,
        rounds=3,
        seen="2,011 requests, 3,002 queries",
    ),
    Row(
        name="250 mapped instances begin, per instance",
        goals=(at_most(1, QUERIES), at_most(8, "time")),
        subject=_mapped_begin,
        many=250,
        counted=25,
        rounds=4,
        seen="2 to 7 queries",
    ),
]
