"""From looks at Airflow to states and events."""

from __future__ import annotations

from typing import Any

import pytest

from workflows import handover, observe, receipt
from workflows.models import CommandKind, Event, Run, TaskInstance, Workflow
from workflows.observe import Sight
from workflows.states import RunState
from workflows.tests.stage import NOW, at, dag_run, new_run, story, task

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(nightly: Workflow) -> Run:
    """Handed over, and not seen in Airflow yet."""
    return new_run(nightly)


def look(
    run: Run, second: float, state: str | None = None, *tasks: Any, whole: bool | None = None, **times: Any
) -> Run:
    """Observe what a look at that second shows; of an ended run it shows all tasks, unless told otherwise."""
    ended = state in {"success", "failed"}
    seen = dag_run(run, state, **times) if state else None
    observe.observe(run.pk, Sight(at=at(second), run=seen, tasks=tasks, all_tasks=ended if whole is None else whole))
    run.refresh_from_db()
    return run


def completed(run: Run) -> Run:
    """Let it run and end well: one task, 10 s."""
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    return look(run, 12, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)


def data_of(run: Run, kind: str) -> Any:
    return run.events.get(type=kind).data


# --- The life of a run ----------------------------------------------------------------------------------------


def test_a_run_that_is_seen_queued_is_only_confirmed(run: Run) -> None:
    look(run, 1, "queued", task(run, "extract", None, tries=0))

    assert (run.state, run.observed_at, story(run)) == ("queued", at(1), [])
    assert run.tasks.get().state == ""


def test_a_pending_run_that_is_seen_in_airflow_has_been_handed_over(nightly: Workflow) -> None:
    run = new_run(nightly, RunState.PENDING)

    look(run, 1, "queued")

    assert (run.state, run.queued_at, story(run)) == ("queued", NOW, [])


def test_a_run_starts_when_airflow_says_so(run: Run) -> None:
    look(run, 5, "running", start=1)

    assert (run.state, run.started_at, story(run)) == ("running", at(1), ["workflow.started"])
    event = run.events.get()
    assert event.timestamp == at(1)
    assert event.data == {"state": "running", "attempt": 1, "started_at": "2026-03-01T12:00:01Z"}


def test_tasks_start_and_end_between_the_start_and_the_end_of_their_run(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), task(run, "load", None, tries=0), start=1)
    extracted = task(run, "extract", "success", start=2, end=6)
    look(run, 8, "running", extracted, task(run, "load", "running", start=7), start=1)
    look(run, 12, "success", extracted, task(run, "load", "success", start=7, end=10), start=1, end=11)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.completed extract 1",
        "task.started load 1",
        "task.completed load 1",
        "workflow.completed",
    ]
    assert (run.state, run.started_at, run.ended_at, run.state_reason) == ("success", at(1), at(11), "")
    assert [event.timestamp for event in run.events.order_by("seq")] == [at(s) for s in (1, 2, 6, 7, 10, 11)]
    assert data_of(run, "workflow.completed") == {"state": "success", "attempt": 1, "duration_s": 10.0}
    assert run.events.filter(type="task.completed", task_id="load").get().data == {
        "state": "success",
        "map_index": -1,
        "try_number": 1,
        "duration_s": 3.0,
    }


def test_a_run_that_came_and_went_between_two_looks_is_told_in_order(run: Run) -> None:
    tasks = [
        task(run, "load", "success", start=5, end=8),
        task(run, "extract", "success", start=2, end=4),
    ]
    look(run, 12, "success", *tasks, start=1, end=9)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.completed extract 1",
        "task.started load 1",
        "task.completed load 1",
        "workflow.completed",
    ]
    assert [event.data.get("state") for event in run.events.order_by("seq")] == [
        "running", "running", "success", "running", "success", "success",
    ]  # fmt: skip


def test_a_failed_run_names_the_tasks_that_failed(run: Run) -> None:
    tasks = [
        task(run, "transform", "failed", start=4, end=6),
        task(run, "extract", "failed", start=2, end=3),
        task(run, "load", "upstream_failed", tries=0, start=7, end=7),
    ]
    look(run, 12, "failed", *tasks, start=1, end=8)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.failed extract 1",
        "task.started transform 1",
        "task.failed transform 1",
        "task.skipped load 0",
        "workflow.failed",
    ]
    assert (run.state, run.state_reason) == ("failed", "failed in Airflow: extract, transform")
    assert data_of(run, "workflow.failed") == {
        "state": "failed",
        "attempt": 1,
        "reason": "failed in Airflow: extract, transform",
        "failed_tasks": ["extract", "transform"],
        "duration_s": 7.0,
    }
    assert data_of(run, "task.skipped")["state"] == "upstream_failed"


def test_the_end_of_a_run_waits_until_all_its_tasks_have_been_read(run: Run) -> None:
    look(run, 5, "running", start=1)

    look(run, 12, "success", whole=False, start=1, end=11)

    assert (run.state, story(run)) == ("running", ["workflow.started"])


@pytest.mark.parametrize("state", ["running", "up_for_retry", "failed"])
def test_a_task_that_started_is_not_told_before_its_run(run: Run, state: str) -> None:
    look(run, 5, None, task(run, "extract", state, start=2, end=3))
    assert (story(run), run.tasks.count()) == ([], 0)

    look(run, 7, "running", task(run, "extract", "running", start=2), start=1)

    assert story(run) == ["workflow.started", "task.started extract 1"]


# --- Repeats and older views ----------------------------------------------------------------------------------


def everything(run: Run) -> list[Any]:
    """All that is stored of the run, but for when it was looked at last."""
    rows = [
        *Run.objects.filter(pk=run.pk).values(),
        *run.tasks.order_by("id").values(),
        *run.events.order_by("id").values(),
    ]
    return [{name: value for name, value in row.items() if name != "observed_at"} for row in rows]


def test_the_same_look_again_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    look(run, 12, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)
    look(run, 14, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)

    assert everything(run) == before


def test_a_look_at_a_running_run_again_changes_nothing(run: Run) -> None:
    seen = task(run, "extract", "running", start=2)
    look(run, 5, "running", seen, start=1)
    before = everything(run)

    look(run, 7, "running", seen, start=1)

    assert everything(run) == before
    assert run.observed_at == at(7)


def test_an_older_look_than_the_last_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    look(run, 8, "running", task(run, "extract", "running", start=2), start=1)

    assert everything(run) == before
    assert run.observed_at == at(12)


def test_what_was_seen_before_a_retry_was_carried_out_changes_nothing(run: Run) -> None:
    completed(run)
    Run.objects.move(run.pk, to=RunState.QUEUED, attempt=2)
    handover.owe(CommandKind.CLEAR, run=run, now=at(20), mode="all")
    before = everything(run)

    look(run, 21, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)

    assert everything(run) == before
    assert run.state == "queued"


# --- Tries ----------------------------------------------------------------------------------------------------


def test_a_try_that_fails_with_more_to_come_is_retrying(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    look(run, 7, None, task(run, "extract", "up_for_retry", start=2, end=6))
    look(run, 9, None, task(run, "extract", "queued", tries=2, start=2, end=6))
    look(run, 11, None, task(run, "extract", "running", tries=2, start=10))
    look(run, 20, "success", task(run, "extract", "success", tries=2, start=10, end=15), start=1, end=16)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.retrying extract 1",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]


def test_a_failed_try_that_no_look_saw_is_told_from_the_next_try(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)

    look(run, 20, "success", task(run, "extract", "success", tries=2, start=10, end=15), start=1, end=16)

    assert story(run)[1:] == [
        "task.started extract 1",
        "task.retrying extract 1",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]


def test_a_failed_try_that_no_look_saw_is_told_also_while_the_next_one_waits(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)

    look(run, 9, None, task(run, "extract", "scheduled", tries=2, start=2, end=6))

    assert story(run)[1:] == ["task.started extract 1", "task.retrying extract 1"]
    assert run.events.get(type="task.retrying").timestamp == at(6)


@pytest.mark.parametrize("pause", ["deferred", "up_for_reschedule"])
def test_a_try_that_pauses_and_goes_on_starts_once(run: Run, pause: str) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    look(run, 7, None, task(run, "extract", pause, start=2))
    look(run, 9, None, task(run, "extract", "scheduled", start=2))
    look(run, 11, None, task(run, "extract", "running", start=10))
    look(run, 20, "success", task(run, "extract", "success", start=10, end=15), start=1, end=16)

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1", "workflow.completed"]


def test_an_end_before_the_start_by_another_machines_clock_is_still_told_after_it(run: Run) -> None:
    look(run, 20, "failed", task(run, "extract", "failed", start=10, end=9), start=1, end=16)

    assert story(run)[1:] == ["task.started extract 1", "task.failed extract 1", "workflow.failed"]


def test_the_instances_of_a_mapped_task_are_told_apart_and_replace_its_placeholder(run: Run) -> None:
    look(run, 5, "running", task(run, "load", None, tries=0), start=1)
    mapped = [
        task(run, "load", "success", index=0, start=2, end=5),
        task(run, "load", "failed", index=1, start=3, end=6),
    ]
    look(run, 12, "failed", *mapped, start=1, end=8)

    assert story(run)[1:] == [
        "task.started load[0] 1",
        "task.started load[1] 1",
        "task.completed load[0] 1",
        "task.failed load[1] 1",
        "workflow.failed",
    ]
    assert [str(instance) for instance in run.tasks.order_by("map_index")] == ["load[0]", "load[1]"]
    assert data_of(run, "workflow.failed")["failed_tasks"] == ["load[1]"]


# --- Stopping -------------------------------------------------------------------------------------------------


def stopping(run: Run) -> None:
    Run.objects.move(run.pk, to=RunState.STOPPING, stop_requested_at=at(6), state_reason="stopped by ada")


def receive(run: Run, *task_ids: str, second: float, proven: bool = True) -> Run:
    """The processes of these tasks are gone, as of that second."""
    tasks = run.tasks.filter(task_id__in=task_ids)
    observe.note_receipts(run.pk, [receipt.Receipt(task, at(second), proven=proven) for task in tasks])
    run.refresh_from_db()
    return run


def test_a_stop_is_complete_when_the_process_of_every_task_is_gone(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    stopping(run)
    look(run, 7, "running", task(run, "extract", "running", start=2), start=1)
    assert run.state == "stopping"

    tasks = [task(run, "extract", "failed", start=2, end=7), task(run, "load", "skipped", tries=0, start=7, end=7)]
    look(run, 9, "failed", *tasks, start=1, end=7)
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
    assert data_of(run, "workflow.stopped") == {"state": "stopped", "attempt": 1, "note": "stopped by ada"}


def test_a_stop_is_not_complete_while_a_task_still_runs(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)

    look(run, 9, "failed", task(run, "extract", "restarting", start=2), start=1, end=8)

    assert (run.state, run.ended_at) == ("stopping", None)


def test_a_run_that_ends_well_while_it_is_stopped_is_stopped(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)

    look(run, 9, "success", task(run, "extract", "success", start=2, end=7), start=1, end=8)

    assert (run.state, story(run)[-1]) == ("stopped", "workflow.stopped")


@pytest.mark.parametrize("state", ["success", "failed"])
def test_a_late_end_never_flips_a_stopped_run(run: Run, state: str) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    look(run, 9, "failed", start=1, end=8)
    before = everything(run)

    look(run, 12, state, start=1, end=11)

    assert everything(run) == before


def test_a_run_stopped_before_it_was_seen_to_start_is_told_to_have_started(run: Run) -> None:
    stopping(run)

    look(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)
    receive(run, "extract", second=8)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.failed extract 1",
        "workflow.stopped",
    ]
    assert data_of(run, "workflow.started")["state"] == "stopping"
    assert (run.state, run.started_at) == ("stopped", at(1))


def test_a_run_stopped_before_it_started_is_not_told_to_have_started(run: Run) -> None:
    stopping(run)

    look(run, 9, "failed", task(run, "extract", "skipped", tries=0, start=8, end=8), end=8)

    assert story(run) == ["task.skipped extract 0", "workflow.stopped"]


def test_a_stop_waits_for_the_last_receipt(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    tasks = [task(run, "extract", "failed", index=n, start=2, end=7) for n in (0, 1)]
    look(run, 9, "failed", *tasks, task(run, "load", "failed", start=2, end=7), start=1, end=7)

    receive(run, "extract", second=12)
    assert (run.state, run.ended_at) == ("stopping", at(7))
    receive(run, "load", second=11)

    assert (run.state, run.ended_at) == ("stopped", at(11))


def test_while_receipts_are_missing_a_stopped_run_ends_no_earlier_than_its_last_task(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    tasks = [task(run, "extract", "success", start=2, end=68), task(run, "load", "failed", start=2, end=7)]
    look(run, 70, "failed", *tasks, start=1, end=7)
    assert (run.state, run.ended_at) == ("stopping", at(68))

    receive(run, "load", second=9)

    assert (run.state, run.ended_at) == ("stopped", at(68))


def test_the_receipt_of_an_earlier_try_counts_for_nothing(run: Run) -> None:
    look(run, 5, "running", task(run, "extract", "failed", start=2, end=3), start=1)
    earlier = [receipt.Receipt(run.tasks.get(), at(4), proven=True)]
    stopping(run)
    look(run, 9, "failed", task(run, "extract", "failed", tries=2, start=5, end=8), start=1, end=8)

    observe.note_receipts(run.pk, earlier)

    run.refresh_from_db()
    assert run.state == "stopping"


def test_a_receipt_that_is_only_presumed_is_told_so(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    look(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)

    receive(run, "extract", second=700, proven=False)

    reason = "stopped by ada (nothing was heard of extract for 600 s)"
    assert (run.state, run.state_reason) == ("stopped", reason)
    assert data_of(run, "workflow.stopped")["note"] == reason


def test_receipts_do_not_complete_a_stop_whose_tasks_were_cleared_in_airflow(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    look(run, 9, "failed", task(run, "extract", "failed", start=2, end=8), start=1, end=8)
    look(run, 10, "queued", task(run, "extract", None, start=2, end=8))

    receive(run, "extract", second=11)

    assert (run.state, run.ended_at) == ("stopping", None)


def test_a_stop_past_its_deadline_names_what_has_no_receipt(run: Run) -> None:
    stopping(run)
    tasks = [task(run, "extract", "failed", start=2, end=8), task(run, "load", "failed", start=2, end=8)]
    look(run, 9, "failed", *tasks, task(run, "report", "skipped", tries=0), start=1, end=8)
    receive(run, "extract", second=10)

    observe.note_stop_incomplete(run.pk, at=at(70))

    assert data_of(run, "workflow.stop_incomplete")["still_running"] == ["load"]


def test_a_stop_past_its_deadline_names_what_still_runs(run: Run) -> None:
    tasks = [task(run, "extract", "success", start=2, end=3), task(run, "load", "running", index=2, start=4)]
    look(run, 5, "running", *tasks, start=1)
    stopping(run)

    observe.note_stop_incomplete(run.pk, at=at(70))

    run.refresh_from_db()
    assert run.state == "stopping"
    assert data_of(run, "workflow.stop_incomplete") == {
        "state": "stopping",
        "attempt": 1,
        "still_running": ["load[2]"],
    }


def test_a_stop_that_is_complete_is_not_reported_as_incomplete(run: Run) -> None:
    completed(run)
    before = everything(run)

    observe.note_stop_incomplete(run.pk, at=at(70))

    assert everything(run) == before


# --- What somebody does in Airflow ----------------------------------------------------------------------------


def test_a_run_cleared_in_airflow_begins_again(run: Run) -> None:
    completed(run)

    look(run, 20, "queued", task(run, "extract", None, start=2, end=10))
    assert (run.state, run.attempt, run.ended_at, run.started_at) == ("queued", 2, None, None)
    look(run, 30, "success", task(run, "extract", "success", tries=2, start=22, end=23), start=21, end=24)

    assert story(run)[4:] == [
        "workflow.external_change cleared",
        "workflow.started",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]
    assert (run.state, run.started_at, run.ended_at) == ("success", at(21), at(24))
    completions = run.events.filter(type="workflow.completed").order_by("seq")
    assert [event.data["attempt"] for event in completions] == [1, 2]


@pytest.mark.parametrize(("began", "told_at"), [(30, 30), (22.5, 23)], ids=["late look", "look that waited"])
def test_what_is_skipped_again_after_a_clear_with_its_old_times_is_told_at_its_turn(
    run: Run, began: float, told_at: float
) -> None:
    look(run, 5, "running", start=1)
    first = [task(run, "extract", "failed", start=2, end=3), task(run, "load", "upstream_failed", tries=0, end=4)]
    look(run, 6, "failed", *first, start=1, end=5)
    look(run, 20, "queued", task(run, "extract", None), task(run, "load", None, tries=0))
    told = len(story(run))

    skipped = task(run, "load", "upstream_failed", tries=0, end=4)
    again = [skipped, task(run, "extract", "failed", tries=2, start=22, end=23)]
    look(run, began, "failed", *again, start=21, end=24)

    assert story(run)[told:] == [
        "workflow.started",
        "task.started extract 2",
        "task.failed extract 2",
        "task.skipped load 0",
        "workflow.failed",
    ]
    assert run.events.filter(type="task.skipped").latest("seq").timestamp == at(told_at)


def test_a_run_cleared_and_over_again_between_two_looks_is_told_in_order(run: Run) -> None:
    completed(run)

    look(run, 30, "success", task(run, "extract", "success", tries=2, start=22, end=23), start=21, end=24)

    assert story(run)[4:] == [
        "workflow.external_change cleared",
        "workflow.started",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]
    assert (run.attempt, run.started_at) == (2, at(21))


def test_a_stopped_run_cleared_in_airflow_begins_again(run: Run) -> None:
    look(run, 5, "running", start=1)
    stopping(run)
    look(run, 9, "failed", start=1, end=8)

    look(run, 20, "running", start=19)

    assert story(run) == [
        "workflow.started",
        "workflow.stopped",
        "workflow.external_change cleared",
        "workflow.started",
    ]
    assert (run.state, run.attempt, run.stop_requested_at, run.state_reason) == ("running", 2, None, "")


def test_a_success_marked_as_failed_in_airflow_is_an_external_change(run: Run) -> None:
    completed(run)

    look(run, 20, "failed", task(run, "extract", "success", start=2, end=10), start=1, end=19)

    assert story(run)[4:] == ["workflow.external_change marked", "workflow.failed"]
    assert (run.state, run.state_reason, run.attempt) == ("failed", "failed in Airflow", 1)


def test_a_failure_marked_as_success_in_airflow_has_no_reason_any_more(run: Run) -> None:
    look(run, 12, "failed", task(run, "extract", "failed", start=2, end=10), start=1, end=11)
    assert run.state_reason == "failed in Airflow: extract"

    look(run, 20, "success", task(run, "extract", "failed", start=2, end=10), start=1, end=19)

    assert story(run)[4:] == ["workflow.external_change marked", "workflow.completed"]
    assert (run.state, run.state_reason) == ("success", "")


def test_a_run_deleted_in_airflow_has_failed(run: Run) -> None:
    look(run, 5, "running", start=1)

    observe.note_deleted(run.pk, at=at(9))

    run.refresh_from_db()
    assert story(run) == ["workflow.started", "workflow.external_change deleted", "workflow.failed"]
    assert (run.state, run.state_reason, run.ended_at) == ("failed", "deleted in Airflow", at(9))


def test_a_stopping_run_deleted_in_airflow_is_stopped(run: Run) -> None:
    stopping(run)

    observe.note_deleted(run.pk, at=at(9))

    run.refresh_from_db()
    assert story(run) == ["workflow.external_change deleted", "workflow.stopped"]
    assert run.state == "stopped"


def test_the_deletion_of_a_run_that_has_ended_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    observe.note_deleted(run.pk, at=at(20))

    assert everything(run) == before


def test_a_deletion_seen_before_the_last_look_changes_nothing(run: Run) -> None:
    look(run, 10, "running", start=1)
    before = everything(run)

    observe.note_deleted(run.pk, at=at(9))

    assert everything(run) == before


def test_events_of_one_run_leave_the_other_alone(run: Run, nightly: Workflow) -> None:
    other = new_run(nightly)
    before = everything(other)

    completed(run)

    assert everything(other) == before
    assert Event.objects.count() == 4
    assert TaskInstance.objects.count() == 1
