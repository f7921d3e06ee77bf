"""Pushes of the listener plugin: whose run it is, many states in one, and a run with many mapped instances."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from benchmarks.table.names import BENCH_DAG
from benchmarks.table.row import QUERIES, Prepare, Row, Work, at_most, ratio
from benchmarks.table.stage import Stage, instance_id
from workflows.models import Run, TaskInstance
from workflows.naming import DEFAULT
from workflows.watch import push

Record = dict[str, Any]


def _of_loaded_runs(stage: Stage) -> Work:
    """Pushes about runs of the loaded data, in which nothing is new: what is left is to find the runs."""
    runs = list(Run.objects.exclude(dag_id=BENCH_DAG).order_by("created_at")[2_000 : 2_000 + 20])
    records = [_run_record(run, "running") for run in runs]
    push.receive(DEFAULT, records, now=timezone.now())

    def work() -> None:
        for _ in range(stage.many):
            push.receive(DEFAULT, records, now=timezone.now())

    return work


def _many_states(stage: Stage) -> Work:
    """One push with the ends of the tasks of many runs."""
    runs = stage.active_runs(max(1, stage.many // 5), tasks=5)
    names = ["work", "work_1", "work_2", "work_3", "work_4"]
    records = [_task_record(run, name) for run in runs for name in names]

    def work() -> None:
        push.receive(DEFAULT, records, now=timezone.now())
        ended = TaskInstance.objects.filter(run__in=[run.pk for run in runs], state="success")
        assert ended.count() == len(records)

    return work


def _one_of_mapped(count: int) -> Prepare:
    """Return the preparation of pushes, each about one instance of a run that has many."""

    def prepare(stage: Stage) -> Work:
        instances = stage.size(count, count // 10)
        run = stage.active_runs(1)[0]
        begun = timezone.now()
        TaskInstance.objects.bulk_create(
            (
                TaskInstance(
                    run=run,
                    task_id="mapped",
                    map_index=index,
                    instance_id=instance_id(run, "mapped", index),
                    state="running",
                    try_number=1,
                    started_at=begun,
                    start_recorded=True,
                    recorded_from=1,
                )
                for index in range(instances)
            ),
            batch_size=1000,
        )
        records = [_task_record(run, "mapped", index=index) for index in range(stage.many)]

        def work() -> None:
            for record in records:
                push.receive(DEFAULT, [record], now=timezone.now())

        return work

    return prepare


def _run_record(run: Run, state: str) -> Record:
    return {
        "kind": "run",
        "at": timezone.now().isoformat(),
        "dag_id": run.dag_id,
        "dag_run_id": run.dag_run_id,
        "state": state,
        "run_type": "manual",
        "start_date": run.started_at.isoformat() if run.started_at else None,
        "end_date": None,
    }


def _task_record(run: Run, name: str, *, index: int = -1) -> Record:
    now = timezone.now().isoformat()
    return {
        "kind": "task",
        "id": instance_id(run, name, index),
        "at": now,
        "dag_id": run.dag_id,
        "dag_run_id": run.dag_run_id,
        "task_id": name,
        "map_index": index,
        "try_number": 1,
        "max_tries": 0,
        "state": "success",
        "start_date": run.started_at.isoformat() if run.started_at else None,
        "end_date": now,
    }


ROWS = [
    Row(
        name="whose run is this, for 20 runs in a push",
        goals=(ratio(at_most=1.3),),
        subject=_of_loaded_runs,
        many=5,
        seen="2.5 s with 5 million runs",
    ),
    Row(
        name="a push of 100 states, per state",
        goals=(at_most(1, QUERIES),),
        subject=_many_states,
        many=100,
        counted=25,
        seen="6 queries",
    ),
    Row(
        name="a push about one of 5,000 mapped instances",
        goals=(ratio("cpu", at_most=1.3),),
        subject=_one_of_mapped(5000),
        peer=_one_of_mapped(500),
        peer_name="one of 500",
        many=5,
        counted=1,
        rounds=4,
        seen="133 to 199 ms CPU against 22 to 47",
    ),
]
