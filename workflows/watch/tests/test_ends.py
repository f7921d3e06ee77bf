"""How a run ends: after its tasks, once, and never by news of an earlier attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from workflows import services
from workflows.dispatch import dispatcher
from workflows.lifecycle import exits, moves
from workflows.models import Airflow, AirflowCommand, CommandKind, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, at, dag_run, new_run, story, task
from workflows.watch import poll
from workflows.watch.observation import Observation
from workflows.watch.observe import observe

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(nightly: Workflow) -> Run:
    return new_run(nightly)


def look(run: Run, second: float, state: str | None, *tasks: Any, pushed: bool = False, **times: Any) -> Run:
    """Observe all tasks of the run after the run itself, at that second."""
    seen = dag_run(run, state, **times) if state else None
    observe(run.pk, Observation(at=at(second), run=seen, tasks=tasks, all_tasks=seen is not None, pushed=pushed))
    run.refresh_from_db()
    return run


def stopping(run: Run, *tasks: Any, dispatched: float = 10) -> Run:
    """Let it run, and then a stop of it be dispatched at that second."""
    look(run, 5, "running", *tasks, start=1)
    moves.move(run, to=RunState.STOPPING, stop_requested_at=at(dispatched), state_reason="stopped by ada")
    AirflowCommand.objects.create(
        kind=CommandKind.STOP,
        run=run,
        arguments={"by": "ada", "note": ""},
        created_at=at(dispatched),
        due_at=at(dispatched),
        finished_at=at(dispatched),
    )
    return run


def stop_of(run: Run) -> AirflowCommand:
    return run.commands.get(kind=CommandKind.STOP)


# --- The end of a run comes after the ends of its tasks -------------------------------------------------------


def test_the_end_of_a_run_waits_for_the_tasks_that_airflow_still_has_to_cut_off(run: Run) -> None:
    look(run, 5, "running", task(run, "slow", "running", start=2), start=1)
    look(run, 12, "failed", task(run, "slow", "running", start=2), task(run, "load", None, tries=0), start=1, end=11)
    assert (run.state, story(run)) == ("running", ["workflow.started", "task.started slow 1"])

    cut_off = [task(run, "slow", "skipped", start=2, end=13), task(run, "load", "skipped", tries=0, start=13, end=13)]
    look(run, 14, "failed", *cut_off, start=1, end=11)

    assert (run.state, run.ended_at, run.end_seen_at) == ("failed", at(11), at(12))
    assert story(run)[2:] == ["task.skipped slow 1", "task.skipped load 0", "workflow.failed"]


@pytest.mark.parametrize(("second", "state"), [(26.9, "running"), (27, "failed")])
def test_the_end_of_a_run_whose_tasks_never_end_waits_for_15_seconds(run: Run, second: float, state: str) -> None:
    unfinished = task(run, "load", None, tries=0)
    look(run, 12, "failed", unfinished, start=1, end=11)

    look(run, second, "failed", unfinished, start=1, end=11)

    assert run.state == state


def test_while_an_end_waits_each_poll_reads_from_before_it(run: Run) -> None:
    Airflow.default()
    Airflow.objects.update(looked_at=at(60))
    look(run, 12, "failed", task(run, "load", None, tries=0), start=1, end=11)

    assert poll._read_up_to(DEFAULT, at(62), before_a_sweep=False) == at(12)


# --- A stop that meets the start of a task --------------------------------------------------------------------


@pytest.mark.parametrize(("second", "state"), [(14.9, "stopping"), (15, "stopped")])
def test_a_stop_is_complete_five_seconds_after_its_dispatch_at_the_earliest(
    run: Run, second: float, state: str
) -> None:
    stopping(run, task(run, "extract", "scheduled", tries=0))

    look(run, second, "failed", task(run, "extract", "skipped", tries=0, start=10, end=10), start=1, end=10)

    assert run.state == state


@pytest.mark.parametrize("tries", [0, 1])
def test_a_task_that_starts_after_it_was_shown_as_skipped_is_stopped_again_and_the_stop_waits_for_it(
    run: Run, tries: int
) -> None:
    stopping(run, task(run, "extract", "scheduled", tries=tries))
    look(run, 11, "failed", task(run, "extract", "skipped", tries=tries, start=10, end=10), start=1, end=10)

    look(run, 12, "failed", task(run, "extract", "running", start=12), start=1, end=10)
    assert (run.state, stop_of(run).finished_at) == ("stopping", None)

    AirflowCommand.objects.update(finished_at=at(13))
    look(run, 19, "failed", task(run, "extract", "failed", start=12, end=14), start=1, end=10)
    assert exits.missing(run.tasks.all()) == [run.tasks.get()]
    assert (run.state, run.ended_at) == ("stopping", at(14))


def test_a_task_seen_running_in_a_stopped_run_is_stopped_again_in_airflow(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = new_run(nightly)
    airflow.put(run, "running", start=1)
    airflow.put_task(run, "extract", None, tries=0)
    poll.tick(DEFAULT, now=timezone.now())
    services.stop_run(run=run, actor=ada)
    poll.tick(DEFAULT, now=timezone.now() + timedelta(seconds=6))
    run.refresh_from_db()
    assert run.state == "stopped"
    airflow.put_task(run, "extract", "running", start=20)

    poll.tick(DEFAULT, now=timezone.now() + timedelta(seconds=8))
    stop = stop_of(run)
    assert stop.finished_at is None
    AirflowCommand.objects.update(due_at=NOW)
    dispatcher.dispatch_due(DEFAULT, now=timezone.now() + timedelta(seconds=9))

    assert airflow.marked == [(run.dag_run_id, "failed")] * 2
    assert airflow.tasks["etl", run.dag_run_id, "extract", -1]["state"] == "failed"


def test_a_stopped_run_that_somebody_has_restarted_in_airflow_is_not_stopped_again(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    run = stopping(new_run(nightly))
    moves.finish_stop(run, at=at(15))
    airflow.put(run, "running", start=20)
    AirflowCommand.objects.update(finished_at=None)

    dispatcher.dispatch_due(DEFAULT, now=timezone.now())

    assert airflow.marked == []
    assert stop_of(run).finished_at is not None


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_stopping_run_that_somebody_restarts_in_airflow_is_stopped_again(run: Run, state: str) -> None:
    stopping(run, task(run, "extract", "failed", start=2, end=4))

    look(run, 14, state, task(run, "extract", "queued", start=2, end=4), start=13 if state == "running" else None)

    assert (run.state, run.started_at) == ("stopping", at(13 if state == "running" else 1))
    assert stop_of(run).finished_at is None


def test_a_late_push_of_the_start_is_no_reason_to_stop_a_stopping_run_again(run: Run) -> None:
    stopping(run, task(run, "extract", "running", start=2))

    observe(run.pk, Observation(at=at(14), run=dag_run(run, "running", start=1), pushed=True))

    assert stop_of(run).finished_at == at(10)


def test_a_poll_from_before_the_stop_is_no_reason_to_stop_the_run_again(run: Run) -> None:
    stopping(run, dispatched=10)

    look(run, 9, "running", start=1)

    assert stop_of(run).finished_at == at(10)


# --- Tasks that never had a process ---------------------------------------------------------------------------


def test_a_queued_instance_that_airflow_fails_never_started_and_needs_no_exit_proof(run: Run) -> None:
    queued = [task(run, "work", "queued", tries=1, index=index) for index in range(8)]
    stopping(run, *queued)

    failed = [task(run, "work", "failed", tries=1, index=index, start=10, end=10) for index in range(8)]
    look(run, 15, "failed", *failed, start=1, end=10)

    assert run.state == "stopped"
    assert story(run) == ["workflow.started", *(f"task.failed work[{n}] 1" for n in range(8)), "workflow.stopped"]


# --- One end for each try -------------------------------------------------------------------------------------


def test_a_process_that_reports_its_retry_after_its_run_was_stopped_adds_nothing(run: Run) -> None:
    stopping(run, task(run, "extract", "running", start=2))
    look(run, 11, "failed", task(run, "extract", "failed", start=2, end=10), start=1, end=10)

    observe(run.pk, Observation(at=at(12), tasks=[task(run, "extract", "up_for_retry", start=2, end=12)], pushed=True))
    look(run, 13, "failed", task(run, "extract", "up_for_retry", start=2, end=12), start=1, end=10)
    look(run, 16, "failed", task(run, "extract", "failed", start=2, end=12), start=1, end=10)

    assert story(run) == ["workflow.started", "task.started extract 1", "task.failed extract 1"]


def test_somebody_who_marks_an_ended_task_in_airflow_ends_it_once_more(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "failed", start=2, end=4), start=1)
    look(run, 7, "running", task(run, "extract", "success", start=2, end=4), start=1)
    look(run, 9, "running", task(run, "extract", "failed", start=2, end=4), start=1)

    ends = ["task.failed extract 1", "task.completed extract 1", "task.failed extract 1"]
    assert story(run)[2:] == ends


# --- News of an earlier attempt -------------------------------------------------------------------------------


@pytest.fixture
def retried(run: Run) -> Run:
    """Failed from second 1 to 11, retried, and running again since second 21."""
    look(run, 12, "failed", task(run, "extract", "failed", start=2, end=10), start=1, end=11)
    moves.reopen(run)
    look(run, 20, "queued", task(run, "extract", None, tries=1))
    return look(run, 22, "running", task(run, "extract", "running", tries=2, start=21), start=21)


@pytest.mark.parametrize("pushed", [True, False])
@pytest.mark.parametrize("state", ["running", "failed", "success"])
def test_late_news_of_the_run_of_an_earlier_attempt_changes_nothing(retried: Run, state: str, pushed: bool) -> None:
    before = (retried.state, retried.attempt, retried.started_at, retried.ended_at, story(retried))

    look(retried, 25, state, pushed=pushed, start=1, end=None if state == "running" else 11)

    assert (retried.state, retried.attempt, retried.started_at, retried.ended_at, story(retried)) == before


@pytest.mark.parametrize(("state", "end"), [("running", None), ("failed", 10), ("success", 10), ("up_for_retry", 10)])
def test_a_late_push_of_a_task_of_an_earlier_attempt_changes_nothing(run: Run, state: str, end: float | None) -> None:
    look(run, 12, "failed", task(run, "extract", "failed", start=2, end=10), start=1, end=11)
    moves.reopen(run)
    look(run, 20, "queued", task(run, "extract", None, tries=1))
    look(run, 22, "running", task(run, "extract", None, tries=1), start=21)
    before = story(run)

    observe(run.pk, Observation(at=at(23), tasks=[task(run, "extract", state, start=2, end=end)], pushed=True))

    assert (story(run), run.tasks.get().state) == (before, "")


@pytest.mark.parametrize("pushed", [True, False])
def test_a_task_that_succeeded_in_an_earlier_attempt_stays_when_the_end_of_its_retry_is_seen(
    run: Run, pushed: bool
) -> None:
    kept = task(run, "extract", "success", start=2, end=4)
    look(run, 12, "failed", kept, task(run, "load", "failed", start=5, end=10), start=1, end=11)
    moves.reopen(run)
    look(run, 20, "queued", kept, task(run, "load", None, tries=1))

    again = task(run, "load", "success", tries=2, start=22, end=28)
    look(run, 30, "success", kept, again, pushed=pushed, start=21, end=29)

    assert run.state == "success"
    assert sorted(run.tasks.values_list("task_id", "state")) == [("extract", "success"), ("load", "success")]


def test_the_end_of_the_attempt_itself_is_recorded(retried: Run) -> None:
    look(retried, 30, "success", task(retried, "extract", "success", tries=2, start=21, end=28), start=21, end=29)

    assert (retried.state, retried.ended_at) == ("success", at(29))
    assert retried.events.get(type="workflow.completed").data["duration_s"] == 8.0
