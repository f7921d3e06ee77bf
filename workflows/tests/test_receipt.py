"""A stop is complete when the tasks' own logs say that their processes are gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from workflows import receipt, reconcile, services
from workflows.airflow.tests.scripted import Reply
from workflows.models import AirflowState, Run, Workflow
from workflows.tests.stage import StagedAirflow, new_run, story

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """One that is at work on `transform`, and we know it."""
    AirflowState.current()
    AirflowState.objects.update(swept_at=timezone.now() + timedelta(hours=1))
    run = new_run(nightly)
    airflow.put(run, "running", start=1)
    airflow.put_task(run, "extract", "success", start=2, end=3)
    airflow.put_task(run, "transform", "running", start=4)
    airflow.put_task(run, "load", None, tries=0)
    airflow.put_log(run, "transform", "::group::Pre Execute", "::endgroup::", "working")
    tick()
    run.refresh_from_db()
    return run


def tick() -> None:
    assert reconcile.tick(now=timezone.now())


def state_of(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state


def logs_read(airflow: StagedAirflow) -> list[str]:
    return [path.split("/taskInstances/")[1] for method, path in airflow.calls if "/logs/" in path]


def test_a_stop_is_complete_when_the_log_says_that_the_process_was_killed(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada)

    tick()
    assert (state_of(run), airflow.tasks[run.dag_id, run.dag_run_id, "transform", -1]["state"]) == (
        "stopping",
        "failed",
    )
    airflow.put_log(run, "transform", "::group::Pre Execute", "::endgroup::", "working", "Task killed!")
    tick()

    assert state_of(run) == "stopped"
    assert story(run)[-3:] == ["task.failed transform 1", "task.skipped load 0", "workflow.stopped"]
    assert set(logs_read(airflow)) == {"transform/logs/1"}


def test_a_stop_before_any_task_has_started_is_complete_at_the_next_look(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = new_run(nightly)
    airflow.put(run, "queued")
    airflow.put_task(run, "extract", None, tries=0)
    services.stop_run(run=run, actor=ada)

    tick()

    assert state_of(run) == "stopped"
    assert logs_read(airflow) == []


def test_a_task_that_ends_by_itself_while_it_is_stopped_is_told_and_the_run_is_stopped(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada)
    airflow.put_task(run, "transform", "success", start=4, end=9)

    tick()

    assert (state_of(run), story(run)[-1]) == ("stopped", "workflow.stopped")
    assert "task.completed transform 1" in story(run)


def test_what_had_failed_long_before_the_stop_needs_no_receipt(airflow: StagedAirflow, run: Run, ada: User) -> None:
    airflow.put_task(run, "extract", "failed", start=2, end=3)
    tick()
    services.stop_run(run=run, actor=ada)
    airflow.put_log(run, "transform", "Task killed!")

    tick()

    assert state_of(run) == "stopped"
    assert set(logs_read(airflow)) == {"transform/logs/1"}


def test_no_log_is_read_for_runs_that_are_not_stopping(airflow: StagedAirflow, run: Run) -> None:
    airflow.put_task(run, "transform", "failed", start=4, end=9)
    airflow.put(run, "failed", start=1, end=9)

    tick()
    tick()

    assert (state_of(run), logs_read(airflow)) == ("failed", [])


def test_a_log_that_can_not_be_had_is_no_receipt_and_says_nothing_about_airflow(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada)
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/transform/logs/1"

    for refusal in (Reply(404, {"detail": "TaskInstance not found"}), Reply(403, {"detail": "Forbidden"}), Reply(500)):
        airflow.answers["GET", path] = lambda _request, refusal=refusal: refusal
        tick()

        assert (state_of(run), AirflowState.current().reachable) == ("stopping", True)


def test_one_go_reads_so_many_logs_and_the_next_go_the_others(
    airflow: StagedAirflow, run: Run, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt, "LOGS_AT_ONCE", 2)
    for index in range(3):
        airflow.put_task(run, "mapped", "running", start=4, index=index)
        airflow.put_log(run, "mapped", "Task killed!", index=index)
    airflow.put_log(run, "transform", "Task killed!")
    services.stop_run(run=run, actor=ada)

    tick()
    first = len(logs_read(airflow)), state_of(run)
    tick()

    assert (first, len(logs_read(airflow)), state_of(run)) == ((2, "stopping"), 4, "stopped")


def overdue(run: Run, ada: User, *, by: timedelta) -> None:
    """Stop the run, and let its deadline have passed."""
    services.stop_run(run=run, actor=ada)
    tick()
    Run.objects.filter(pk=run.pk).update(stop_requested_at=timezone.now() - by)


def test_past_its_deadline_a_stop_is_looked_at_by_sweeps_and_completed_when_the_receipt_comes(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    overdue(run, ada, by=timedelta(seconds=61))
    sweep()
    assert story(run)[-1] == "workflow.stop_incomplete"
    assert run.events.get(type="workflow.stop_incomplete").data["still_running"] == ["transform"]
    airflow.put_log(run, "transform", "Task killed!")

    tick()
    assert state_of(run) == "stopping"
    sweep()

    assert (state_of(run), story(run)[-1]) == ("stopped", "workflow.stopped")


@pytest.mark.parametrize(
    ("seconds", "state", "reason"),
    [
        (590, "stopping", "stopped by ada"),
        (610, "stopped", "stopped by ada (nothing was heard of transform for 600 s)"),
    ],
)
def test_a_process_that_is_silent_for_very_long_is_taken_to_be_gone(
    airflow: StagedAirflow, run: Run, ada: User, seconds: int, state: str, reason: str
) -> None:
    overdue(run, ada, by=timedelta(seconds=seconds))

    sweep()

    run.refresh_from_db()
    assert (run.state, run.state_reason) == (state, reason)


def test_a_process_that_writes_on_is_not_taken_to_be_gone(airflow: StagedAirflow, run: Run, ada: User) -> None:
    overdue(run, ada, by=timedelta(seconds=10_000))
    key = (run.dag_id, run.dag_run_id, "transform", -1, 1)
    airflow.logs[key].append({"event": "still", "level": "info", "timestamp": timezone.now().isoformat()})

    sweep()

    assert state_of(run) == "stopping"


def sweep() -> None:
    AirflowState.objects.update(swept_at=None)
    tick()
    AirflowState.objects.update(swept_at=timezone.now() + timedelta(hours=1))
