"""What polls and pushes cost: queries, counted. None of it grows with what is known but not named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from workflows import gateway
from workflows.models import Dag, Event, Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, dag_run, dag_task, new_run, task
from workflows.watch import push
from workflows.watch.apply import apply

pytestmark = pytest.mark.django_db(transaction=True)


def queries(action: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as captured:
        action()
    return len(captured)


@contextmanager
def rows_read() -> Iterator[Counter[type[Model]]]:
    """Count the rows that become objects, by their model."""
    read: Counter[type[Model]] = Counter()

    def count(sender: type[Model], instance: Model, **_: Any) -> None:
        read[sender] += instance.pk is not None

    post_init.connect(count)
    yield read
    post_init.disconnect(count)


def polled(runs: list[Any], tasks: list[Any], *, second: float) -> None:
    apply(gateway.client_of(DEFAULT), runs=runs, tasks=tasks, at=at(second))


def known(workflow: Workflow, count: int) -> list[Run]:
    """Return runs that are known to be running, each with one running task."""
    runs = [new_run(workflow) for _ in range(count)]
    if runs:
        seen = [dag_run(run, "running", start=1) for run in runs]
        polled(seen, [task(run, "extract", "running", start=2) for run in runs], second=5)
    return runs


def mapped(workflow: Workflow, count: int, state: str = "queued") -> Run:
    """Return a run with so many instances of a mapped task."""
    run = new_run(workflow, RunState.RUNNING, started_at=at(1))
    start = 2 if state == "running" else None
    instances = [task(run, "extract", state, start=start, index=index, id=f"id-{index}") for index in range(count)]
    polled([dag_run(run, "running", start=1)], instances, second=5)
    return run


def pushed_run(run: Run, state: str, *, start: float = 1, end: float | None = None) -> dict[str, Any]:
    return _record(run, "run", state, start, end) | {"run_type": "manual"}


def pushed_task(
    run: Run, state: str, *, start: float = 2, end: float | None = None, index: int = -1, id: str | None = None
) -> dict[str, Any]:
    known = {"task_id": "extract", "map_index": index, "id": id, "try_number": 1, "max_tries": 0}
    return _record(run, "task", state, start, end) | known


def _record(run: Run, kind: str, state: str, start: float, end: float | None) -> dict[str, Any]:
    times: dict[str, Any] = {"start_date": _time(start), "end_date": _time(end), "at": _time(end or start)}
    return {"kind": kind, "dag_id": run.dag_id, "dag_run_id": run.dag_run_id, "state": state, **times}


def _time(second: float | None) -> str | None:
    moment: datetime | None = None if second is None else at(second)
    return moment.isoformat() if moment else None


def pushes(*records: Any) -> Callable[[], object]:
    return lambda: push.receive(DEFAULT, list(records), now=at(20))


# One transaction reads and writes everything of a batch of runs, with about twenty queries. Half of them publish the
# events. SQLite takes fewer values in a query, so there a batch of rows may be several.
A_BATCH = 25


# --- Polls --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(("count", "most"), [(1, A_BATCH), (10, A_BATCH), (100, 2 * A_BATCH)])
@pytest.mark.parametrize("case", ["begin", "goes on", "task ends"])
def test_a_poll_of_changed_runs_costs_as_much_as_of_one(nightly: Workflow, count: int, most: int, case: str) -> None:
    runs = [new_run(nightly) for _ in range(count)] if case == "begin" else known(nightly, count)
    shown: dict[str, tuple[str, str, dict[str, Any], str]] = {
        "begin": ("extract", "running", {"start": 2}, "task.started"),
        "goes on": ("transform", "running", {"start": 6}, "task.started"),
        "task ends": ("extract", "success", {"start": 2, "end": 8}, "task.completed"),
    }
    name, state, times, event = shown[case]
    seen = [dag_run(run, "running", start=1) for run in runs]
    tasks = [task(run, name, state, **times) for run in runs]

    cost = queries(lambda: polled(seen, tasks, second=10))

    assert cost <= most
    assert Event.objects.filter(type=event, task_id=name).count() == count


@pytest.mark.parametrize(("count", "most"), [(1, A_BATCH), (10, A_BATCH), (100, 2 * A_BATCH)])
def test_a_poll_of_ended_runs_costs_as_much_as_of_one(
    airflow: StagedAirflow, nightly: Workflow, count: int, most: int
) -> None:
    runs = known(nightly, count)
    for run in runs:
        airflow.put(run, "success", start=1, end=9)
        airflow.put_task(run, "extract", "success", start=2, end=8)
    seen = [dag_run(run, "success", start=1, end=9) for run in runs]
    tasks = [task(run, "extract", "success", start=2, end=8) for run in runs]

    cost = queries(lambda: polled(seen, tasks, second=10))

    assert cost <= most
    assert Run.objects.filter(state="success").count() == count


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize("changed", [0, 1])
def test_a_poll_that_shows_the_same_runs_again_writes_nothing(nightly: Workflow, changed: int) -> None:
    runs = known(nightly, 100)
    seen = [dag_run(run, "running", start=1) for run in runs]
    tasks = [task(run, "extract", "running", start=2) for run in runs]
    tasks[:changed] = [task(run, "extract", "success", start=2, end=8) for run in runs[:changed]]

    cost = queries(lambda: polled(seen, tasks, second=10))

    # The runs and the named tasks are read to compare them.
    assert cost <= (A_BATCH if changed else 2)
    assert Run.objects.filter(observed_at=at(10)).count() == changed


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(("dags", "most"), [(1, 2), (40, 2)])
def test_runs_of_many_dags_are_found_with_one_query(nightly: Workflow, dags: int, most: int) -> None:
    run = new_run(nightly, RunState.RUNNING)
    others = [dag_run(run, "running", start=1) for _ in range(dags)]
    seen = [replace(one, dag_id=f"dag-{number}") for number, one in enumerate(others)]

    # The runs, and the workflows that might adopt them.
    assert queries(lambda: polled(seen, [], second=10)) <= most
    run.refresh_from_db()
    assert run.observed_at is None


# --- Pushes -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(("count", "most"), [(1, A_BATCH), (10, A_BATCH), (100, 2 * A_BATCH)])
def test_a_push_of_states_of_many_runs_costs_as_much_as_of_one(nightly: Workflow, count: int, most: int) -> None:
    runs = known(nightly, count)

    cost = queries(pushes(*[pushed_task(run, "success", end=8) for run in runs]))

    assert cost <= most
    assert TaskInstance.objects.filter(state="success").count() == count


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_push_of_ended_runs_costs_as_much_as_of_one(etl: Dag, nightly: Workflow, count: int) -> None:
    etl.tasks = [dag_task("extract")]
    etl.save()
    runs = known(nightly, count)
    tasks = [pushed_task(run, "success", end=8) for run in runs]
    ends = [pushed_run(run, "success", end=9) for run in runs]

    cost = queries(pushes(*tasks, *ends))

    assert cost <= 2 * A_BATCH
    assert Event.objects.filter(type="workflow.completed").count() == count


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize("instances", [1, 500, 5000])
@pytest.mark.parametrize("state", ["running", "success", "up_for_retry"])
def test_a_push_of_one_instance_reads_only_this_one(nightly: Workflow, instances: int, state: str) -> None:
    run = mapped(nightly, instances)
    end = None if state == "running" else 8

    with rows_read() as read, CaptureQueriesContext(connection) as captured:
        pushes(pushed_task(run, state, start=6, end=end, index=0, id="id-0"))()

    assert len(captured) <= A_BATCH
    assert read[TaskInstance] <= 2  # before the lock and after
    assert [query["sql"] for query in captured if '"workflows_event"."run_id" =' in query["sql"]] == []
    assert run.tasks.get(map_index=0).state == state


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(("instances", "most"), [(1, A_BATCH), (100, A_BATCH), (1000, 3 * A_BATCH)])
def test_the_ends_of_many_instances_are_written_together(nightly: Workflow, instances: int, most: int) -> None:
    run = mapped(nightly, instances, "running")
    ends = [pushed_task(run, "success", end=8, index=index, id=f"id-{index}") for index in range(instances)]

    cost = queries(pushes(*ends))

    assert cost <= most
    assert run.events.filter(type="task.completed").count() == instances


@pytest.mark.usefixtures("airflow")
@pytest.mark.parametrize(("instances", "most"), [(1, A_BATCH), (250, 30), (1000, 3 * A_BATCH)])
def test_the_starts_of_many_instances_are_written_together(nightly: Workflow, instances: int, most: int) -> None:
    run = new_run(nightly, RunState.RUNNING, started_at=at(1))
    seen = [task(run, "extract", "running", start=2, index=index, id=f"id-{index}") for index in range(instances)]

    cost = queries(lambda: polled([dag_run(run, "running", start=1)], seen, second=5))

    assert cost <= most
    assert run.events.filter(type="task.started").count() == run.tasks.count() == instances
