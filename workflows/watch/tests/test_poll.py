"""Watching Airflow: what a tick costs, what it finds, and that only one worker polls at a time."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import gateway, services
from workflows.airflow.tests.scripted import HangUp, Hold, Reply, run_json, task_json
from workflows.models import Airflow, Dag, Run, TaskInstance, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, log, new_run, run_of, story
from workflows.watch import poll, sweeps

pytestmark = pytest.mark.django_db(transaction=True)


def tick(second: float = 10) -> bool:
    """Poll without a sweep, unless one is due."""
    return poll.tick(DEFAULT, now=at(second))


@pytest.fixture
def swept(airflow: StagedAirflow) -> None:
    """A sweep has just been made."""
    Airflow.default()
    Airflow.objects.update(swept_at=at(0))


def sweep(now: datetime | None = None) -> None:
    with gateway.watched(DEFAULT) as client:
        sweeps.sweep(client, now=now or timezone.now())


def running(airflow: StagedAirflow, workflow: Workflow, **fields: Any) -> Run:
    """Create a run that both sides know to be running, with one running task."""
    run = new_run(workflow, RunState.RUNNING, started_at=at(1), **fields)
    airflow.put(run, "running", start=1)
    airflow.put_task(run, "extract", "running", start=2)
    return run


# --- Polls ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("swept")
def test_a_poll_brings_runs_and_tasks_up_to_date(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = new_run(nightly)
    airflow.put(run, "success", start=1, end=9)
    airflow.put_task(run, "extract", "success", start=2, end=5)

    assert tick(10)

    run.refresh_from_db()
    assert (run.state, run.observed_at) == ("success", at(10))
    assert log() == ["workflow.started", "task.started", "task.completed", "workflow.completed"]
    state = Airflow.default()
    assert (state.looked_at, state.ticked_at, state.leased_until) == (at(10), at(10), None)


@pytest.mark.usefixtures("swept")
def test_a_poll_asks_for_what_has_changed_since_the_last_one_and_a_little_before(
    airflow: StagedAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.RECONCILE_OVERLAP = 10
    tick(30)
    airflow.requests.clear()

    tick(32)

    feeds = [request.query for request in airflow.requests if "updated_at_gte" in request.query]
    assert [feed["updated_at_gte"] for feed in feeds] == [[at(20).isoformat()]] * 2


@pytest.mark.usefixtures("swept")
def test_the_same_poll_again_records_nothing_new(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = new_run(nightly)
    airflow.put(run, "success", start=1, end=9)
    airflow.put_task(run, "extract", "success", start=2, end=5)
    tick(10)
    recorded = log()

    tick(12)
    tick(14)

    assert log() == recorded


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("state", ["running", "success"])
def test_a_poll_costs_as_much_for_fifty_runs_as_for_one(airflow: StagedAirflow, nightly: Workflow, state: str) -> None:
    def cost(second: float) -> Counter[tuple[str, str]]:
        airflow.requests.clear()
        tick(second)
        return Counter((request.method, request.path) for request in airflow.requests)

    def put(run: Run) -> None:
        airflow.put(run, state, start=1, end=9 if state == "success" else None)
        airflow.put_task(run, "extract", state, start=2, end=5 if state == "success" else None)

    tick(5)
    for run in [new_run(nightly), new_run(nightly)]:
        put(run)
    few = cost(10)
    for _ in range(50):
        put(new_run(nightly))
    many = cost(12)

    # The paused DAGs; the runs that run, and the others; the same of tasks; the version; all tasks of the ended runs.
    assert sum(few.values()) == (6 if state == "running" else 7)
    assert many == few
    assert Run.objects.filter(state=state).count() == 52


@pytest.fixture
def beating(airflow: StagedAirflow) -> StagedAirflow:
    """An Airflow whose runs and tasks have run for long: only `updated_at` moves, as in 3.3.2."""
    airflow.by_start = True
    return airflow


@pytest.mark.usefixtures("swept")
def test_a_poll_while_a_thousand_runs_run_reads_and_asks_no_more_than_with_one(
    beating: StagedAirflow, nightly: Workflow
) -> None:
    def cost(second: float) -> tuple[int, int, int]:
        beating.requests.clear()
        before = beating.bytes_sent
        with CaptureQueriesContext(connection) as queries:
            assert tick(second)
        return len(beating.requests), beating.bytes_sent - before, len(queries)

    running(beating, nightly)
    tick(100)
    few = cost(102)
    runs = [run_of(nightly, state=RunState.RUNNING, started_at=at(1)) for _ in range(999)]
    Run.objects.bulk_create(runs)
    TaskInstance.objects.bulk_create(
        TaskInstance(run=run, task_id="extract", state="running", try_number=1, started_at=at(2)) for run in runs
    )
    for run in runs:
        beating.put(run, "running", start=1)
        beating.put_task(run, "extract", "running", start=2)
    many = cost(104)

    assert few[0] == 6
    assert many == few


@pytest.mark.usefixtures("swept")
def test_without_any_workflow_a_poll_asks_only_whether_airflow_answers_us(airflow: StagedAirflow) -> None:
    assert tick()

    assert airflow.calls == [("GET", "/dags")]


@pytest.mark.usefixtures("swept")
def test_wrong_credentials_are_an_outage_also_without_any_workflow(airflow: StagedAirflow) -> None:
    airflow.password = "another"

    assert not tick()

    seen = Airflow.default()
    assert (seen.reachable, seen.looked_at, seen.last_error) == (False, None, "Invalid credentials")


@pytest.mark.usefixtures("swept")
def test_an_ended_run_that_is_not_ours_is_left_alone(airflow: StagedAirflow, nightly: Workflow) -> None:
    airflow.runs["etl", "manual__1"] = run_json("etl", "manual__1", state="success")

    tick()

    assert (Run.objects.count(), log()) == (0, [])


# --- What the feeds leave out -----------------------------------------------------------------------------------


def entry(run: Run, task_id: str, *, index: int = -1) -> dict[str, Any]:
    """Return what Airflow's audit log has of a task that began to run."""
    ids = {"dag_id": run.dag_id, "run_id": run.dag_run_id, "task_id": task_id, "map_index": index}
    return {"event": "running", **ids}


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("waited", ["deferred", "up_for_reschedule", "awaiting_input", "scheduled", "queued"])
def test_a_task_that_goes_on_with_the_start_it_had_is_seen_by_the_next_poll(
    beating: StagedAirflow, nightly: Workflow, waited: str
) -> None:
    run = running(beating, nightly)
    run.tasks.create(task_id="extract", state=waited, try_number=1, started_at=at(2), question={})
    beating.begun = [entry(run, "extract"), entry(run, "other")]

    tick(40)

    assert run.tasks.get().state == "running"
    beating.requests.clear()
    tick(42)
    # It waits no longer, so there is nothing to ask for.
    assert [call for call in beating.calls if call[1] == "/eventLogs"] == []


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("status", [403, 404])
def test_without_the_right_to_read_the_audit_log_a_poll_goes_on(
    beating: StagedAirflow, nightly: Workflow, status: int
) -> None:
    run = running(beating, nightly)
    run.tasks.create(task_id="extract", state="deferred", try_number=1, started_at=at(2))
    beating.answers["GET", "/eventLogs"] = lambda request: Reply(status, {"detail": "no"})

    assert tick(40)

    assert run.tasks.get().state == "deferred"
    sweep()
    assert run.tasks.get().state == "running"


@pytest.mark.usefixtures("swept")
def test_a_run_that_began_before_its_workflow_was_made_is_adopted_with_its_tasks(
    beating: StagedAirflow, nightly: Workflow
) -> None:
    beating.runs["etl", "manual__1"] = run_json("etl", "manual__1", state="running", start_date=at(1).isoformat())
    times = {"start_date": at(2).isoformat(), "end_date": at(3).isoformat()}
    beating.tasks["etl", "manual__1", "extract", -1] = task_json(
        "etl", "manual__1", "extract", state="success", try_number=1, **times
    )
    tick(40)
    assert Run.objects.count() == 0

    Workflow.objects.filter(pk=nightly.pk).update(updated_at=at(41))
    tick(42)

    run = Run.objects.get()
    assert (run.state, run.started_at) == ("running", at(1))
    assert run.tasks.get().state == "success"


# --- Sweeps ---------------------------------------------------------------------------------------------------


def test_a_sweep_finds_an_end_that_no_poll_has_shown(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = running(airflow, nightly)
    airflow.hidden.add((run.dag_id, run.dag_run_id))
    airflow.put(run, "success", start=1, end=9)
    airflow.put_task(run, "extract", "success", start=2, end=5)

    sweep()

    run.refresh_from_db()
    assert run.state == "success"
    assert story(run) == ["task.started extract 1", "task.completed extract 1", "workflow.completed"]


def test_a_sweep_finds_the_progress_of_a_running_run(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = running(airflow, nightly)
    airflow.hidden.add((run.dag_id, run.dag_run_id))

    sweep()

    run.refresh_from_db()
    assert (run.state, story(run)) == ("running", ["task.started extract 1"])


def test_a_sweep_finds_a_run_that_was_deleted_in_airflow(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = running(airflow, nightly)
    airflow.runs.clear()

    sweep()

    run.refresh_from_db()
    assert (run.state, run.state_reason) == ("failed", "deleted in Airflow")
    assert story(run) == ["workflow.external_change deleted", "workflow.failed"]


def test_a_sweep_watches_also_a_run_that_was_started_in_airflow(airflow: StagedAirflow, nightly: Workflow) -> None:
    airflow.runs["etl", "manual__1"] = run_json("etl", "manual__1", state="running", start_date=at(1).isoformat())
    tick(10)
    run = Run.objects.get(trigger_type="external")
    airflow.runs.clear()

    sweep()

    run.refresh_from_db()
    assert (run.state, run.state_reason) == ("failed", "deleted in Airflow")


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.STOPPING])
def test_a_run_that_is_on_its_way_to_airflow_is_not_taken_for_deleted(
    airflow: StagedAirflow, nightly: Workflow, ada: User, state: RunState
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=False))
    run = services.trigger_run(workflow=nightly, user=ada, trigger_type=TriggerType.API)
    Run.objects.filter(pk=run.pk).update(state=state)
    gateway.breaker(DEFAULT).close()

    sweep()

    run.refresh_from_db()
    assert (run.state, story(run)) == (state, ["workflow.triggered"])


def test_a_sweep_costs_as_much_for_fifty_runs_as_for_two(airflow: StagedAirflow, nightly: Workflow) -> None:
    def cost() -> int:
        airflow.requests.clear()
        sweep()
        return len(airflow.calls)

    running(airflow, nightly)
    running(airflow, nightly)
    few = cost()
    for _ in range(48):
        running(airflow, nightly)
    many = cost()

    assert (few, many) == (2, 2)


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.QUEUED])
def test_a_sweep_compares_a_share_of_the_runs_and_the_next_one_goes_on_behind_it(
    airflow: StagedAirflow, nightly: Workflow, monkeypatch: pytest.MonkeyPatch, state: RunState
) -> None:
    monkeypatch.setattr(sweeps, "RUNS", 4)
    runs = []
    for number in range(10):
        second = 100 * number
        times: dict[str, Any] = {"started_at": at(second)} if state == RunState.RUNNING else {"queued_at": at(second)}
        runs.append(new_run(nightly, state, **times))
        airflow.put(runs[-1], state, start=second if state == RunState.RUNNING else None)
        airflow.runs[runs[-1].dag_id, runs[-1].dag_run_id]["run_after"] = at(second).isoformat()
    for run in (runs[3], runs[9]):
        del airflow.runs[run.dag_id, run.dag_run_id]

    found = []
    for _ in range(3):
        airflow.requests.clear()
        sweep()
        found.append([runs.index(run) for run in Run.objects.filter(state="failed").order_by("created_at")])
        # The list, the tasks of the listed, and the run that was not listed.
        assert len(airflow.calls) <= 3

    assert found == [[3], [3], [3, 9]]


def test_a_share_has_few_tasks_but_at_least_one_run(
    airflow: StagedAirflow, nightly: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "TASKS", 3)
    runs = [new_run(nightly, RunState.RUNNING, started_at=at(100 * number)) for number in range(3)]
    for run, tasks in zip(runs, (5, 2, 1), strict=True):
        airflow.put(run, "running", start=100 * runs.index(run))
        for index in range(tasks):
            airflow.put_task(run, "extract", "running", start=2, index=index)
            run.tasks.create(task_id="extract", map_index=index, state="running", try_number=1, started_at=at(2))

    reached = []
    for _ in range(3):
        sweep()
        reached.append(Airflow.default().swept_run)

    assert reached == [runs[0].pk, None, runs[0].pk]


@pytest.mark.usefixtures("airflow", "nightly")
def test_a_sweep_is_made_when_it_is_due(settings: Settings) -> None:
    settings.SWEEP_INTERVAL = 60
    swept_at = []

    for second in (0, 59, 60, 61):
        tick(second)
        swept_at.append(Airflow.default().swept_at)

    assert swept_at == [at(0), at(0), at(60), at(60)]


def test_a_stop_past_its_deadline_is_reported_once_per_stop(
    airflow: StagedAirflow, nightly: Workflow, settings: Settings
) -> None:
    run = running(airflow, nightly)
    now = timezone.now()

    def stop(asked: datetime) -> None:
        Run.objects.filter(pk=run.pk).update(state=RunState.STOPPING, stop_requested_at=asked)

    def reports() -> int:
        return story(run).count("workflow.stop_incomplete")

    stop(now)
    sweep(now + timedelta(seconds=settings.STOP_DEADLINE))
    assert reports() == 0
    sweep(now + timedelta(seconds=settings.STOP_DEADLINE + 1))
    sweep(now + timedelta(seconds=settings.STOP_DEADLINE + 60))
    assert reports() == 1

    again = now + timedelta(hours=1)
    stop(again)
    sweep(again + timedelta(seconds=settings.STOP_DEADLINE + 1))
    assert reports() == 2


# --- Airflow away ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("swept", "nightly")
def test_airflow_going_away_and_coming_back_is_recorded_once_each(airflow: StagedAirflow) -> None:
    tick(0)
    airflow.answers["GET", "/dags/~/dagRuns"] = lambda request: Reply(503, {"detail": "busy"})
    assert [tick(2), tick(3), tick(4), tick(5)] == [False] * 4
    assert (log(), Airflow.default().reachable) == ([], True)
    assert [tick(6), tick(7)] == [False, False]
    assert log() == ["system.airflow_down"]
    assert (Airflow.default().reachable, Airflow.default().last_error) == (False, "busy")

    del airflow.answers["GET", "/dags/~/dagRuns"]
    gateway.breaker(DEFAULT).close()
    assert [tick(8), tick(10)] == [True, True]

    assert log() == ["system.airflow_down", "system.airflow_up"]
    state = Airflow.default()
    assert (state.reachable, state.version, state.last_error) == (True, "3.3.2", "")


@pytest.mark.usefixtures("swept")
def test_changes_during_an_outage_are_found_when_airflow_is_back(airflow: StagedAirflow, nightly: Workflow) -> None:
    tick(0)
    airflow.answers["GET", "/dags/~/dagRuns"] = lambda request: Reply(503, {"detail": "busy"})
    tick(2)
    assert Airflow.default().looked_at == at(0)
    del airflow.answers["GET", "/dags/~/dagRuns"]
    gateway.breaker(DEFAULT).close()

    airflow.requests.clear()
    tick(3600)

    since = next(request.query["updated_at_gte"] for request in airflow.requests if "updated_at_gte" in request.query)
    assert since <= [at(0).isoformat()]


@pytest.mark.usefixtures("no_airflow", "nightly")
def test_a_tick_without_airflow_still_shows_that_beat_runs() -> None:
    assert not tick(10)

    state = Airflow.default()
    assert (state.ticked_at, state.looked_at, state.leased_until, state.reachable) == (at(10), None, None, False)


def test_cached_state_is_stale_when_airflow_was_not_polled_for_a_while(settings: Settings) -> None:
    settings.STALE_AFTER = 20
    state = Airflow(reachable=True, looked_at=at(0))

    assert [state.is_stale(at(second)) for second in (0, 20, 21)] == [False, False, True]
    assert Airflow(reachable=False, looked_at=at(0)).is_stale(at(0))
    assert Airflow(reachable=True).is_stale(at(0))


# --- One at a time --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("swept", "nightly")
def test_two_ticks_at_once_make_one_poll(airflow: StagedAirflow) -> None:
    tick(0)
    held = Hold()
    airflow.requests.clear()
    airflow.next_api_calls.append(held)

    def first() -> bool:
        try:
            return tick(10)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(first)
        assert held.arrived.wait(20)
        second = tick(11)
        asked = len(airflow.calls)
        held.released.set()

        assert (looking.result(30), second, asked) == (True, False, 1)


@pytest.mark.usefixtures("airflow", "nightly")
def test_the_lease_of_a_crashed_tick_expires() -> None:
    Airflow.default()
    Airflow.objects.update(leased_until=at(60))

    assert [tick(10), tick(59), tick(61)] == [False, False, True]


@pytest.mark.usefixtures("airflow", "nightly")
def test_a_tick_that_outlived_its_lease_leaves_the_lease_of_the_next_alone(airflow: StagedAirflow) -> None:
    def overtaken(request: Any) -> Reply:
        Airflow.objects.update(leased_until=at(500))
        connection.close()
        return Reply(200, {"dag_runs": [], "total_entries": 0})

    airflow.answers["GET", "/dags/~/dagRuns"] = overtaken

    tick(0)

    assert Airflow.default().leased_until == at(500)


def test_runs_of_a_dag_whose_workflow_was_deleted_are_still_watched(
    airflow: StagedAirflow, nightly: Workflow, etl: Dag
) -> None:
    run = running(airflow, nightly)
    Workflow.objects.filter(pk=nightly.pk).update(deleted_at=at(0))

    tick(10)

    assert story(run) == ["task.started extract 1"]
