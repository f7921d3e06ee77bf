"""A stop is complete when the tasks' own logs say that their processes are gone."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import gateway, services
from workflows.airflow.tests.scripted import Reply, Request
from workflows.dispatch import dispatcher
from workflows.models import Airflow, AirflowCommand, Run, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import StagedAirflow, dag_run, new_run, story, task
from workflows.watch import observe, poll, stops
from workflows.watch.observation import Observation

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _settled(settings: Settings) -> None:
    """Stops settle at once here: how long they wait is tested in `test_ends.py`."""
    settings.STOP_SETTLE = 0


@pytest.fixture
def run(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """A run that is known to be running `transform`."""
    Airflow.default()
    Airflow.objects.update(swept_at=timezone.now() + timedelta(hours=1))
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
    assert poll.tick(DEFAULT, now=timezone.now())


def state_of(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state


def logs_read(airflow: StagedAirflow) -> list[str]:
    return [path.split("/taskInstances/")[1] for method, path in airflow.calls if "/logs/" in path]


def test_a_stop_is_complete_when_the_log_says_that_the_process_was_killed(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada, note="too slow")

    tick()
    assert (state_of(run), airflow.tasks[run.dag_id, run.dag_run_id, "transform", -1]["state"]) == (
        "stopping",
        "failed",
    )
    airflow.put_log(run, "transform", "::group::Pre Execute", "::endgroup::", "working", "Task killed!")
    tick()

    assert state_of(run) == "stopped"
    assert story(run)[-3:] == ["task.failed transform 1", "task.skipped load 0", "workflow.stopped"]
    stopped = run.events.get(type="workflow.stopped").data
    assert (stopped["by"], stopped["note"], stopped["reason"]) == ("ada", "too slow", "stopped by ada: too slow")
    assert set(logs_read(airflow)) == {"transform/logs/1"}


def test_a_stop_before_any_task_has_started_is_complete_at_the_next_poll(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = new_run(nightly)
    airflow.put(run, "queued")
    airflow.put_task(run, "extract", None, tries=0)
    services.stop_run(run=run, actor=ada)

    tick()

    assert state_of(run) == "stopped"
    assert logs_read(airflow) == []


def test_a_task_that_ends_by_itself_while_it_is_stopped_is_recorded_and_the_run_is_stopped(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada)
    airflow.put_task(run, "transform", "success", start=4, end=9)

    tick()

    assert (state_of(run), story(run)[-1]) == ("stopped", "workflow.stopped")
    assert "task.completed transform 1" in story(run)


# --- A stop that meets the start of a task: Airflow ends the run, and the task goes on ---------------------------


@pytest.fixture
def missed(airflow: StagedAirflow, run: Run, ada: User) -> Run:
    """A run that Airflow has ended without noticing that `transform` had started."""
    services.stop_run(run=run, actor=ada)
    airflow.put_task(run, "transform", "running", start=4)
    return run


def stop_of(run: Run) -> AirflowCommand:
    return run.commands.get(kind="stop")


def dispatch_pending() -> int:
    """Dispatch the pending commands, as if they were due by now."""
    AirflowCommand.objects.filter(finished_at__isnull=True).update(due_at=timezone.now())
    return dispatcher.dispatch_due(DEFAULT, now=timezone.now())


def test_a_stop_that_met_the_start_of_a_task_is_repeated_and_ends_it(airflow: StagedAirflow, missed: Run) -> None:
    tick()
    assert (state_of(missed), dispatch_pending()) == ("stopping", 1)
    airflow.put_log(missed, "transform", "Task killed!")
    tick()

    assert airflow.marked == [(missed.dag_run_id, "failed")] * 2
    assert story(missed)[-3:] == ["task.skipped load 0", "task.failed transform 1", "workflow.stopped"]
    assert (state_of(missed), dispatch_pending()) == ("stopped", 0)


@pytest.mark.parametrize("state", ["scheduled", "queued", "up_for_retry"])
def test_a_task_that_has_not_begun_in_a_run_that_was_ended_is_skipped(
    airflow: StagedAirflow, missed: Run, state: str
) -> None:
    airflow.put_task(missed, "transform", state)
    tick()
    assert (state_of(missed), dispatch_pending()) == ("stopping", 1)
    tick()

    assert (state_of(missed), missed.tasks.get(task_id="transform").state) == ("stopped", "skipped")


def test_each_poll_repeats_the_stop_once_and_each_repeat_waits_longer(airflow: StagedAirflow, missed: Run) -> None:
    for attempt in (1, 2, 3):
        looked_at = timezone.now()
        assert poll.tick(DEFAULT, now=looked_at)
        stop = stop_of(missed)
        wait = (stop.due_at - looked_at) / timedelta(seconds=1)
        assert (stop.finished_at, stop.attempts) == (None, attempt)
        assert 2 ** (attempt - 1) / 2 <= wait <= 2 ** (attempt - 1)
        tick()
        assert (stop_of(missed).due_at, len(airflow.marked)) == (stop.due_at, attempt)
        dispatch_pending()
        airflow.put_task(missed, "transform", "running", start=4)


def test_an_observation_from_before_the_dispatch_of_a_stop_repeats_no_stop(airflow: StagedAirflow, missed: Run) -> None:
    before = stop_of(missed)
    assert before.finished_at
    seen = Observation(
        at=before.finished_at - timedelta(microseconds=1),
        run=dag_run(missed, "failed", start=1, end=100),
        tasks=[task(missed, "transform", "running", start=4)],
        all_tasks=True,
        pushed=True,
    )

    observe.observe(missed.pk, seen)

    assert stop_of(missed).finished_at == before.finished_at


def test_a_repeated_stop_spares_a_run_that_was_restarted_since(airflow: StagedAirflow, missed: Run) -> None:
    tick()
    dispatch_pending()
    airflow.put_task(missed, "transform", "success", start=4, end=160)
    tick()
    assert state_of(missed) == "stopped"
    airflow.put_task(missed, "transform", "running", start=170)
    tick()
    airflow.put(missed, "running", start=200)

    assert dispatch_pending() == 1

    assert (airflow.runs[missed.dag_id, missed.dag_run_id]["state"], len(airflow.marked)) == ("running", 2)
    assert stop_of(missed).finished_at


def test_a_stop_is_not_complete_before_the_end_of_its_last_task(airflow: StagedAirflow, missed: Run) -> None:
    tick()
    dispatch_pending()
    airflow.put_task(missed, "transform", "success", start=4, end=160)
    tick()

    ended = missed.tasks.get(task_id="transform").ended_at
    missed.refresh_from_db()
    assert (missed.state, missed.ended_at) == ("stopped", ended)
    assert missed.events.get(type="workflow.stopped").timestamp == ended
    assert story(missed)[-1] == "workflow.stopped"


def test_a_task_that_had_failed_long_before_the_stop_needs_no_exit_proof(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    airflow.put_task(run, "extract", "failed", start=2, end=3)
    tick()
    services.stop_run(run=run, actor=ada)
    airflow.put_log(run, "transform", "Task killed!")

    tick()

    assert state_of(run) == "stopped"
    assert set(logs_read(airflow)) == {"transform/logs/1"}


def test_no_log_is_read_for_runs_that_are_not_stopping(airflow: StagedAirflow, run: Run) -> None:
    airflow.put_task(run, "transform", "failed", start=4, end=9)
    airflow.put_task(run, "load", "upstream_failed", tries=0)
    airflow.put(run, "failed", start=1, end=9)

    tick()
    tick()

    assert (state_of(run), logs_read(airflow)) == ("failed", [])


def test_a_log_that_cannot_be_read_is_no_exit_proof_and_says_nothing_about_airflow(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    services.stop_run(run=run, actor=ada)
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/transform/logs/1"

    for refusal in (Reply(404, {"detail": "TaskInstance not found"}), Reply(403, {"detail": "Forbidden"}), Reply(500)):
        airflow.answers["GET", path] = lambda _request, refusal=refusal: refusal
        tick()

        assert (state_of(run), Airflow.default().reachable) == ("stopping", True)


def test_one_turn_reads_so_many_logs_and_the_next_turn_the_others(
    airflow: StagedAirflow, run: Run, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "LOGS_AT_ONCE", 2)
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
    """Stop the run, and let its deadline pass."""
    services.stop_run(run=run, actor=ada)
    tick()
    Run.objects.filter(pk=run.pk).update(stop_requested_at=timezone.now() - by)


def test_past_its_deadline_a_stop_is_checked_by_sweeps_and_completed_when_the_exit_proof_comes(
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
def test_a_process_that_is_silent_for_very_long_is_presumed_to_have_ended(
    airflow: StagedAirflow, run: Run, ada: User, seconds: int, state: str, reason: str
) -> None:
    overdue(run, ada, by=timedelta(seconds=seconds))

    sweep()

    run.refresh_from_db()
    assert (run.state, run.state_reason) == (state, reason)


def test_a_process_that_still_writes_is_not_presumed_to_have_ended(airflow: StagedAirflow, run: Run, ada: User) -> None:
    overdue(run, ada, by=timedelta(seconds=10_000))
    key = (run.dag_id, run.dag_run_id, "transform", -1, 1)
    airflow.logs[key].append({"event": "still", "level": "info", "timestamp": timezone.now().isoformat()})

    sweep()

    assert state_of(run) == "stopping"


def sweep() -> None:
    Airflow.objects.update(swept_at=None)
    tick()
    Airflow.objects.update(swept_at=timezone.now() + timedelta(hours=1))


def test_a_stop_whose_log_airflow_prepares_for_long_holds_up_no_poll_and_completes_with_it(
    airflow: StagedAirflow, run: Run, ada: User, settings: Settings
) -> None:
    """Before: a log that took more than 10 s was never read, so the stop never completed, and each poll waited."""
    settings.LOG_WAIT, settings.AIRFLOW_READ_TIMEOUT = 0.1, 0.1
    released = threading.Event()

    def prepare(_request: Request) -> Reply:
        assert released.wait(60)
        return Reply(200, b'{"event": "Task killed!", "logger": "task", "level": "info"}\n')

    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/transform/logs/1"
    airflow.answers["GET", path] = prepare
    services.stop_run(run=run, actor=ada)
    tick()
    states = state_of(run), gateway.answers(DEFAULT), gateway.breaker_is_closed(DEFAULT)
    released.set()
    end = time.monotonic() + 60
    while state_of(run) != "stopped":
        assert time.monotonic() < end
        tick()

    assert states == ("stopping", True, True)
