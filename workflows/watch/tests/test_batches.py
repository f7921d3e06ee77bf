"""Many runs are observed in one transaction: what happens to the others if one fails, and if two batches meet."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection
from pytest_django import Settings

from workflows.models import Event, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import at, dag_run, new_run, story, task
from workflows.watch import observe
from workflows.watch.observation import Observation
from workflows.watch.tests.polls import polled

pytestmark = pytest.mark.django_db(transaction=True)

REFUSED = "refused"


def refuse(events: Sequence[Event]) -> None:
    """A sink that cannot take the events of one run."""
    if any(event.task_id == REFUSED for event in events):
        raise ValueError("not this one")


def lose_the_database(events: Sequence[Event]) -> None:
    if any(event.task_id == REFUSED for event in events):
        raise OperationalError("the database is gone")


def begun(run: Run, *, name: str = "extract", second: float = 5) -> Observation:
    return Observation(at=at(second), run=dag_run(run, "running", start=1), tasks=[task(run, name, "running", start=2)])


def test_a_run_that_cannot_be_written_does_not_hold_up_the_others_and_is_observed_later(
    nightly: Workflow, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EVENT_SINKS = [f"{__name__}.refuse"]
    runs = [new_run(nightly) for _ in range(3)]
    bad = runs[1]

    observe.observe_all({run.pk: begun(run, name=REFUSED if run == bad else "extract") for run in runs})

    assert [len(story(run)) for run in runs] == [2, 0, 2]
    assert [run.state for run in Run.objects.order_by("created_at")] == ["running", "queued", "running"]
    assert [vars(record)["run_id"] for record in caplog.records if record.message == "run not observed"] == [
        str(bad.pk)
    ]
    settings.EVENT_SINKS = []
    observe.observe_all({bad.pk: begun(bad, name=REFUSED)})
    assert story(bad) == ["workflow.started", f"task.started {REFUSED} 1"]


def test_a_failure_of_the_database_is_no_fault_of_a_run(nightly: Workflow, settings: Settings) -> None:
    settings.EVENT_SINKS = [f"{__name__}.lose_the_database"]
    run = new_run(nightly)

    with pytest.raises(OperationalError):
        observe.observe_all({run.pk: begun(run, name=REFUSED)})

    assert (story(run), run.tasks.count()) == ([], 0)


def test_a_run_that_was_deleted_here_is_left_out(nightly: Workflow) -> None:
    run, gone = new_run(nightly), new_run(nightly)
    observations = {one.pk: begun(one) for one in (run, gone)}
    gone.delete()

    assert observe.observe_all(observations) == set()
    assert story(run) == ["workflow.started", "task.started extract 1"]


def test_the_runs_whose_end_has_to_wait_are_named(nightly: Workflow) -> None:
    runs = [new_run(nightly) for _ in range(2)]
    ends = [Observation(at=at(12), run=dag_run(run, "success", start=1, end=11), pushed=True) for run in runs]
    runs[0].workflow.dag.tasks = [{"task_id": "extract"}]
    runs[0].workflow.dag.save()
    polled(runs[0], 10, "running", task(runs[0], "extract", "success", start=2, end=9), start=1)

    waiting = observe.observe_all({run.pk: end for run, end in zip(runs, ends, strict=True)})

    assert waiting == {runs[1].pk}
    assert [run.state for run in Run.objects.order_by("created_at")] == ["success", "running"]


def test_batches_of_the_same_runs_pass_each_other_and_each_event_is_recorded_once(nightly: Workflow) -> None:
    runs = [new_run(nightly) for _ in range(60)]

    def observed(number: int) -> None:
        order = runs if number % 2 else list(reversed(runs))
        try:
            observe.observe_all({run.pk: begun(run) for run in order})
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(observed, range(8)))

    assert {tuple(story(run)) for run in runs} == {("workflow.started", "task.started extract 1")}
    assert Run.objects.filter(event_count=2, state=RunState.RUNNING).count() == 60
