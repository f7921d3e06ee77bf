"""A stopped run is complete when Airflow has ended it and no exit proof is missing."""

from __future__ import annotations

import pytest

from workflows.lifecycle import exits
from workflows.models import Run
from workflows.tests.stage import at, story, task
from workflows.watch import stops
from workflows.watch.observation import Observation
from workflows.watch.observe import observe
from workflows.watch.tests.polls import completed, data_of, everything, polled, stopping

pytestmark = pytest.mark.django_db


def receive(run: Run, *task_ids: str, second: float, proven: bool = True) -> Run:
    """Record that the processes of these tasks have ended at that second."""
    tasks = run.tasks.filter(task_id__in=task_ids)
    stops.record_proofs(run.pk, [exits.ExitProof(task, at(second), proven=proven) for task in tasks])
    run.refresh_from_db()
    return run


def test_a_stop_is_complete_when_the_process_of_every_task_is_gone(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    stopping(run)
    polled(run, 7, "running", task(run, "extract", "running", start=2), start=1)
    assert run.state == "stopping"

    tasks = [task(run, "extract", "failed", start=2, end=7), task(run, "load", "skipped", tries=0, start=7, end=7)]
    polled(run, 9, "failed", *tasks, start=1, end=7)
    assert (run.state, run.ended_at) == ("stopping", at(7))
    receive(run, "extract", second=8)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.failed extract 1",
        "task.skipped load 0",
        "workflow.stopped",
    ]
    assert (run.state, run.ended_at, run.state_reason) == ("stopped", at(8), "stopped by ada")
    assert data_of(run, "workflow.stopped") == {
        "state": "stopped",
        "attempt": 1,
        "airflow": "default",
        "by": "",
        "note": "",
        "reason": "stopped by ada",
    }


def test_a_stop_is_not_complete_while_a_task_still_runs(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)

    polled(run, 9, "failed", task(run, "extract", "restarting", start=2), start=1, end=8)

    assert (run.state, run.ended_at) == ("stopping", None)


def test_a_run_that_ends_well_while_it_is_stopped_is_stopped(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)

    polled(run, 9, "success", task(run, "extract", "success", start=2, end=7), start=1, end=8)

    assert (run.state, story(run)[-1]) == ("stopped", "workflow.stopped")


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_late_end_never_flips_a_stopped_run(run: Run, state: str) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    polled(run, 9, "failed", start=1, end=8)
    before = everything(run)

    polled(run, 12, state, start=1, end=11)

    assert everything(run) == before


def test_a_run_stopped_before_its_start_was_observed_has_a_start_event(run: Run) -> None:
    stopping(run)

    polled(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)
    receive(run, "extract", second=8)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.failed extract 1",
        "workflow.stopped",
    ]
    assert data_of(run, "workflow.started")["state"] == "stopping"
    assert (run.state, run.started_at) == ("stopped", at(1))


def test_a_run_stopped_before_its_start_has_no_start_event(run: Run) -> None:
    stopping(run)

    polled(run, 9, "failed", task(run, "extract", "skipped", tries=0, start=8, end=8), end=8)

    assert story(run) == ["task.skipped extract 0", "workflow.stopped"]


def test_a_stop_waits_for_the_last_exit_proof(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    tasks = [task(run, "extract", "failed", index=n, start=2, end=7) for n in (0, 1)]
    polled(run, 9, "failed", *tasks, task(run, "load", "failed", start=2, end=7), start=1, end=7)

    receive(run, "extract", second=12)
    assert (run.state, run.ended_at) == ("stopping", at(7))
    receive(run, "load", second=11)

    assert (run.state, run.ended_at) == ("stopped", at(11))


def test_while_exit_proofs_are_missing_a_stopped_run_ends_no_earlier_than_its_last_task(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    tasks = [task(run, "extract", "success", start=2, end=68), task(run, "load", "failed", start=2, end=7)]
    polled(run, 70, "failed", *tasks, start=1, end=7)
    assert (run.state, run.ended_at) == ("stopping", at(68))

    receive(run, "load", second=9)

    assert (run.state, run.ended_at) == ("stopped", at(68))


def test_the_exit_proof_of_an_earlier_try_does_not_count(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "failed", start=2, end=3), start=1)
    earlier = [exits.ExitProof(run.tasks.get(), at(4), proven=True)]
    stopping(run)
    polled(run, 9, "failed", task(run, "extract", "failed", tries=2, start=5, end=8), start=1, end=8)

    stops.record_proofs(run.pk, earlier)

    run.refresh_from_db()
    assert run.state == "stopping"


def test_an_exit_that_is_only_presumed_is_named_as_such(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    polled(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)

    receive(run, "extract", second=700, proven=False)

    reason = "stopped by ada (nothing was heard of extract for 600 s)"
    assert (run.state, run.state_reason) == ("stopped", reason)
    assert data_of(run, "workflow.stopped")["reason"] == reason


def test_exit_proofs_do_not_complete_a_stop_whose_tasks_were_cleared_in_airflow(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    polled(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)
    polled(run, 10, "queued", task(run, "extract", None, start=2, end=8))

    receive(run, "extract", second=11)

    assert (run.state, run.ended_at) == ("stopping", None)


def test_a_stop_past_its_deadline_names_the_tasks_without_an_exit_proof(run: Run) -> None:
    stopping(run)
    tasks = [task(run, "extract", "failed", start=2, end=8), task(run, "load", "failed", start=2, end=8)]
    polled(run, 9, "failed", *tasks, task(run, "report", "skipped", tries=0), start=1, end=8)
    receive(run, "extract", second=10)

    stops.record_incomplete_stop(run.pk, at=at(70))

    assert data_of(run, "workflow.stop_incomplete")["still_running"] == ["load"]


def test_a_stop_past_its_deadline_names_what_still_runs(run: Run) -> None:
    tasks = [task(run, "extract", "success", start=2, end=3), task(run, "load", "running", index=2, start=4)]
    polled(run, 5, "running", *tasks, start=1)
    stopping(run)

    stops.record_incomplete_stop(run.pk, at=at(70))

    run.refresh_from_db()
    assert run.state == "stopping"
    assert data_of(run, "workflow.stop_incomplete") == {
        "state": "stopping",
        "attempt": 1,
        "airflow": "default",
        "still_running": ["load[2]"],
    }


def test_a_stop_that_is_complete_is_not_reported_as_incomplete(run: Run) -> None:
    completed(run)
    before = everything(run)

    stops.record_incomplete_stop(run.pk, at=at(70))

    assert everything(run) == before


@pytest.mark.parametrize("late", [7, 10])
def test_a_stopped_task_that_pushes_an_end_of_its_own_has_the_end_that_airflow_gave_it(run: Run, late: float) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    stopping(run)
    ended = [task(run, "extract", "failed", start=2, end=6), task(run, "load", "skipped", tries=0, start=6, end=6)]
    if late > 9:
        polled(run, 9, "failed", *ended, start=1, end=6)

    push = Observation(at=at(late), tasks=[task(run, "extract", "success", start=2, end=late)], pushed=True)
    observe(run.pk, push)
    polled(run, 11, "failed", *ended, start=1, end=6)

    assert story(run) == ["workflow.started", "task.started extract 1", "task.failed extract 1", "task.skipped load 0"]
    assert run.tasks.get(task_id="extract").state == "failed"


def test_a_marked_task_that_pushes_an_end_of_its_own_stays_as_it_was_marked(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    polled(run, 7, "running", task(run, "extract", "failed", start=2, end=6), start=1)

    observe(run.pk, Observation(at=at(8), tasks=[task(run, "extract", "success", start=2, end=8)], pushed=True))

    assert story(run) == ["workflow.started", "task.started extract 1", "task.failed extract 1"]
    assert run.tasks.get(task_id="extract").state == "failed"


def test_an_instance_that_had_succeeded_before_airflow_failed_all_of_its_task_did_not_fail(run: Run) -> None:
    done = task(run, "extract", "success", start=2, end=3, index=0)
    polled(run, 5, "running", done, task(run, "extract", "running", start=2, index=1), start=1)
    stopping(run)

    ends = ((0, 3), (1, 6))
    polled(
        run,
        9,
        "failed",
        *(task(run, "extract", "failed", start=2, end=e, index=i) for i, e in ends),
        start=1,
        end=6,
    )

    assert [(event.type, event.data["map_index"]) for event in run.events.exclude(task_id="").order_by("seq")] == [
        ("task.started", 0),
        ("task.started", 1),
        ("task.completed", 0),
        ("task.failed", 1),
    ]
    assert [one.state for one in run.tasks.order_by("map_index")] == ["failed", "failed"]
    assert [str(one) for one in exits.missing(run.tasks.all())] == ["extract[1]"]
