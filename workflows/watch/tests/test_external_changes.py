"""What somebody does with a run in Airflow itself."""

from __future__ import annotations

import pytest

from workflows.models import Event, Run, TaskInstance, Workflow
from workflows.tests.stage import at, new_run, story, task
from workflows.watch import observe
from workflows.watch.tests.polls import completed, everything, polled, stopping

pytestmark = pytest.mark.django_db


def test_a_run_cleared_in_airflow_begins_again(run: Run) -> None:
    completed(run)

    polled(run, 20, "queued", task(run, "extract", None, start=2, end=10))
    assert (run.state, run.attempt, run.ended_at, run.started_at) == ("queued", 2, None, None)
    polled(run, 30, "success", task(run, "extract", "success", tries=2, start=22, end=23), start=21, end=24)

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


@pytest.mark.parametrize(("began", "recorded_at"), [(30, 30), (22.5, 23)], ids=["late poll", "poll that waited"])
def test_a_task_skipped_again_after_a_clear_with_its_old_times_is_recorded_at_its_turn(
    run: Run, began: float, recorded_at: float
) -> None:
    polled(run, 5, "running", start=1)
    first = [task(run, "extract", "failed", start=2, end=3), task(run, "load", "upstream_failed", tries=0, end=4)]
    polled(run, 6, "failed", *first, start=1, end=5)
    polled(run, 20, "queued", task(run, "extract", None), task(run, "load", None, tries=0))
    recorded = len(story(run))

    skipped = task(run, "load", "upstream_failed", tries=0, end=4)
    again = [skipped, task(run, "extract", "failed", tries=2, start=22, end=23)]
    polled(run, began, "failed", *again, start=21, end=24)

    assert story(run)[recorded:] == [
        "workflow.started",
        "task.started extract 2",
        "task.failed extract 2",
        "task.skipped load 0",
        "workflow.failed",
    ]
    assert run.events.filter(type="task.skipped").latest("seq").timestamp == at(recorded_at)


@pytest.mark.parametrize(
    ("known", "marked", "event"),
    [
        ("failed", "success", "task.completed extract 1"),
        ("success", "failed", "task.failed extract 1"),
        ("failed", "skipped", "task.skipped extract 1"),
    ],
)
def test_a_task_marked_while_its_run_is_queued_again_is_recorded_before_the_run_starts(
    run: Run, known: str, marked: str, event: str
) -> None:
    polled(run, 5, "running", start=1)
    polled(run, 6, "failed", task(run, "extract", known, start=2, end=3), start=1, end=5)
    recorded = len(story(run))

    polled(run, 20, "queued", task(run, "extract", marked, start=2, end=19))
    polled(run, 60, "running", start=59)

    assert story(run)[recorded:] == ["workflow.external_change cleared", event, "workflow.started"]
    assert run.tasks.get().state == marked


def test_a_task_that_starts_waits_until_its_run_has_started(run: Run) -> None:
    polled(run, 5, "queued", task(run, "extract", "success", start=4, end=5))

    assert (story(run), run.tasks.count()) == ([], 0)


def test_a_run_cleared_and_ended_again_between_two_polls_is_recorded_in_order(run: Run) -> None:
    completed(run)

    polled(run, 30, "success", task(run, "extract", "success", tries=2, start=22, end=23), start=21, end=24)

    assert story(run)[4:] == [
        "workflow.external_change cleared",
        "workflow.started",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]
    assert (run.attempt, run.started_at) == (2, at(21))


def test_a_stopped_run_cleared_in_airflow_begins_again(run: Run) -> None:
    polled(run, 5, "running", start=1)
    stopping(run)
    polled(run, 9, "failed", start=1, end=8)

    polled(run, 20, "running", start=19)

    assert story(run) == [
        "workflow.started",
        "workflow.stopped",
        "workflow.external_change cleared",
        "workflow.started",
    ]
    assert (run.state, run.attempt, run.stop_requested_at, run.state_reason) == ("running", 2, None, "")


def test_a_success_marked_as_failed_in_airflow_is_an_external_change(run: Run) -> None:
    completed(run)

    polled(run, 20, "failed", task(run, "extract", "success", start=2, end=10), start=1, end=19)

    assert story(run)[4:] == ["workflow.external_change marked", "workflow.failed"]
    assert (run.state, run.state_reason, run.attempt) == ("failed", "failed in Airflow", 1)


def test_a_failure_marked_as_success_in_airflow_has_no_reason_any_more(run: Run) -> None:
    polled(run, 12, "failed", task(run, "extract", "failed", start=2, end=10), start=1, end=11)
    assert run.state_reason == "failed in Airflow: extract"

    polled(run, 20, "success", task(run, "extract", "failed", start=2, end=10), start=1, end=19)

    assert story(run)[4:] == ["workflow.external_change marked", "workflow.completed"]
    assert (run.state, run.state_reason) == ("success", "")


def test_a_run_deleted_in_airflow_has_failed(run: Run) -> None:
    polled(run, 5, "running", start=1)

    observe.record_deleted(run.pk, at=at(9))

    run.refresh_from_db()
    assert story(run) == ["workflow.started", "workflow.external_change deleted", "workflow.failed"]
    assert (run.state, run.state_reason, run.ended_at) == ("failed", "deleted in Airflow", at(9))


def test_a_stopping_run_deleted_in_airflow_is_stopped(run: Run) -> None:
    stopping(run)

    observe.record_deleted(run.pk, at=at(9))

    run.refresh_from_db()
    assert story(run) == ["workflow.external_change deleted", "workflow.stopped"]
    assert run.state == "stopped"


def test_the_deletion_of_a_run_that_has_ended_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    observe.record_deleted(run.pk, at=at(20))

    assert everything(run) == before


def test_a_deletion_observed_before_the_last_poll_changes_nothing(run: Run) -> None:
    polled(run, 10, "running", start=1)
    before = everything(run)

    observe.record_deleted(run.pk, at=at(9))

    assert everything(run) == before


def test_events_of_one_run_leave_the_other_alone(run: Run, nightly: Workflow) -> None:
    other = new_run(nightly)
    before = everything(other)

    completed(run)

    assert everything(other) == before
    assert Event.objects.count() == 4
    assert TaskInstance.objects.count() == 1
