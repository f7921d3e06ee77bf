"""What we owe Airflow is carried out once, in order, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from svops.errors import InvalidInputError
from workflows import handover, services, upstream
from workflows.airflow import Timeout
from workflows.airflow.tests.scripted import Drip, HangUp, Hold, Reply
from workflows.models import AirflowCommand, AirflowState, Run, TriggerType, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, log, story

pytestmark = pytest.mark.django_db(transaction=True)

TRIGGER = ("POST", "/dags/etl/dagRuns")


def trigger(workflow: Workflow, **wanted: Any) -> Run:
    given = wanted.pop("given", {})
    return services.trigger_run(
        workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, given=given, **wanted
    )


def later(seconds: float = 0) -> Any:
    return timezone.now() + timedelta(seconds=seconds)


def carry_out(command: AirflowCommand | None = None) -> bool:
    """Carry out what is owed, as if it were due by now."""
    AirflowCommand.objects.filter(finished_at__isnull=True).update(due_at=timezone.now())
    upstream.breaker().close()
    AirflowState.objects.update(reachable=True)
    if command:
        return handover.carry_out(command, now=timezone.now())
    return handover.carry_out_due(now=timezone.now()) > 0


def owed() -> list[str]:
    return [str(c.kind) for c in AirflowCommand.objects.filter(finished_at__isnull=True).order_by("id")]


def refreshed(run: Run) -> Run:
    run.refresh_from_db()
    return run


# --- Triggers -------------------------------------------------------------------------------------------------


def test_a_trigger_hands_the_run_over_at_once(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = trigger(nightly, given={"rows": 5}, task_id=7, dataset_id="d-1", note="please")

    assert (run.state, run.queued_at is not None, owed()) == ("queued", True, [])
    [theirs] = airflow.runs.values()
    assert theirs["dag_run_id"] == f"svops__{run.pk}"
    assert theirs["conf"] == {"rows": 5, "task_id": 7, "dataset_id": "d-1"}
    assert theirs["note"] == "please"


@pytest.mark.parametrize(
    "fault",
    [
        HangUp(after_doing_it=True),
        HangUp(after_doing_it=False),
        Reply(500, b"<html>Ooops</html>"),
        Reply(503, {"detail": "later"}),
        Reply(200, b"not JSON"),
        Reply(403, {"detail": "Forbidden"}),
    ],
    ids=["answer lost", "request lost", "500", "503", "nonsense", "forbidden"],
)
def test_a_fault_of_the_handover_ends_in_one_run(airflow: StagedAirflow, nightly: Workflow, fault: Any) -> None:
    airflow.next_api_calls.append(fault)
    run = trigger(nightly)
    assert (run.state, owed()) == ("pending", ["trigger"])

    carry_out()

    assert (refreshed(run).state, owed()) == ("queued", [])
    assert list(airflow.runs) == [("etl", f"svops__{run.pk}")]
    assert AirflowCommand.objects.get().attempts == 2


def test_a_timeout_ends_in_one_run(airflow: StagedAirflow, nightly: Workflow, settings: Settings) -> None:
    settings.AIRFLOW_READ_TIMEOUT = settings.DISPATCH_BUDGET = 0.5
    upstream.airflow.cache_clear()
    held = Hold()
    airflow.next_api_calls.append(held)
    run = trigger(nightly)
    assert (run.state, owed()) == ("pending", ["trigger"])

    held.released.set()
    carry_out()

    assert refreshed(run).state == "queued"
    assert list(airflow.runs) == [("etl", f"svops__{run.pk}")]


@pytest.mark.usefixtures("no_airflow")
def test_without_airflow_a_trigger_is_accepted_and_says_so(nightly: Workflow) -> None:
    run = trigger(nightly)

    assert (run.state, story(run), owed()) == ("pending", ["workflow.triggered"], ["trigger"])
    command = AirflowCommand.objects.get()
    assert command.attempts == 1
    assert command.last_error.startswith("no answer from Airflow")
    assert command.leased_until is None
    assert timezone.now() < command.due_at + timedelta(seconds=60)
    assert log() == ["workflow.triggered", "system.airflow_down"]


@pytest.mark.usefixtures("no_airflow")
def test_while_airflow_is_known_to_be_down_a_trigger_does_not_ask_it(nightly: Workflow) -> None:
    trigger(nightly)

    second = trigger(nightly)

    assert second.commands.get().attempts == 0
    assert log() == ["workflow.triggered", "system.airflow_down", "workflow.triggered"]


def test_what_airflow_rejects_fails_the_run_with_its_reason(airflow: StagedAirflow, nightly: Workflow) -> None:
    airflow.next_api_calls.append(Reply(400, {"detail": "Invalid input for param rows: no"}))

    run = trigger(nightly)

    reason = "Could not hand the run over to Airflow: Invalid input for param rows: no"
    assert (run.state, run.state_reason, run.ended_at is not None) == ("failed", reason, True)
    assert (story(run), owed(), airflow.runs) == (["workflow.triggered", "workflow.failed"], [], {})
    assert run.events.get(type="workflow.failed").data["reason"] == reason


@pytest.mark.usefixtures("no_airflow")
def test_after_the_deadline_a_run_that_was_not_handed_over_fails(nightly: Workflow, settings: Settings) -> None:
    run = trigger(nightly)
    AirflowCommand.objects.update(created_at=later(-settings.DISPATCH_DEADLINE - 1))

    carry_out()

    assert (refreshed(run).state, owed()) == ("failed", [])
    assert run.state_reason.startswith("Could not hand the run over to Airflow: no answer from Airflow")
    assert story(run) == ["workflow.triggered", "workflow.failed"]


def test_a_run_that_airflow_has_by_now_is_adopted_as_far_as_it_has_come(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    run = trigger(nightly)
    airflow.put(run, "running", start=1)

    carry_out()

    assert refreshed(run).state == "queued"
    assert airflow.calls.count(TRIGGER) == 2


# --- Leases ---------------------------------------------------------------------------------------------------


def closing(work: Callable[[], Any]) -> Callable[[], Any]:
    def run_and_close() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return run_and_close


@pytest.fixture
def pending(airflow: StagedAirflow, nightly: Workflow) -> AirflowCommand:
    """A trigger that nobody has carried out yet."""
    AirflowState.current()
    AirflowState.objects.update(reachable=False)
    trigger(nightly)
    AirflowState.objects.update(reachable=True)
    return AirflowCommand.objects.get()


def test_of_two_workers_at_once_one_carries_the_command_out(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    held = Hold()
    airflow.next_api_calls.append(held)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(closing(lambda: handover.carry_out(pending, now=timezone.now())))
        assert held.arrived.wait(20)
        second = handover.carry_out(AirflowCommand.objects.get(), now=timezone.now())
        held.released.set()

        assert (first.result(30), second) == (True, False)
    assert airflow.calls.count(TRIGGER) == 1
    assert AirflowCommand.objects.get().attempts == 1


def test_both_leases_of_a_worker_that_dies_run_out_at_the_same_moment(
    airflow: StagedAirflow, pending: AirflowCommand
) -> None:
    """Else the next worker would find the order its own and this command still held, and pass it over."""
    held = Hold()
    airflow.next_api_calls.append(held)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(closing(carry_out))
        assert held.arrived.wait(30)
        leases = (AirflowState.current().dispatch_leased_until, AirflowCommand.objects.get().leased_until)
        held.released.set()
        working.result(30)

    assert leases[0] is not None
    assert leases[0] == leases[1]
    assert (AirflowState.current().dispatch_leased_until, owed()) == (None, [])


def test_no_call_outlasts_the_lease_however_long_airflow_takes_to_answer(
    airflow: StagedAirflow, pending: AirflowCommand, settings: Settings
) -> None:
    settings.DISPATCH_LEASE = 2
    assert Timeout.total > settings.DISPATCH_LEASE
    airflow.next_api_calls.append(drip := Drip(pace=0.02))

    assert handover.carry_out(pending, now=timezone.now())
    drip.ended.set()

    command = AirflowCommand.objects.get()
    assert (command.last_error, command.leased_until) == ("Airflow's answer did not end in time", None)


def test_the_lease_of_another_worker_is_left_alone_by_one_that_has_lost_its_own(
    airflow: StagedAirflow, nightly: Workflow, pending: AirflowCommand
) -> None:
    airflow.next_api_calls.append(held := Hold())
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(closing(carry_out))
        assert held.arrived.wait(30)
        others = later(100)
        AirflowState.objects.update(dispatch_leased_until=others)
        held.released.set()
        working.result(30)

    assert AirflowState.current().dispatch_leased_until == others


def test_a_lease_that_has_run_out_is_taken_over(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    AirflowCommand.objects.update(leased_until=later(-1), attempts=1)

    assert handover.carry_out(pending, now=timezone.now())

    assert (owed(), len(airflow.runs)) == ([], 1)


def test_a_lease_that_holds_is_respected(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    AirflowCommand.objects.update(leased_until=later(20), attempts=1)

    assert not handover.carry_out(pending, now=timezone.now())

    assert (owed(), airflow.runs) == (["trigger"], {})
    assert AirflowCommand.objects.get().attempts == 1


def test_a_command_that_is_finished_is_not_carried_out_again(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    stale = AirflowCommand.objects.get()
    handover.carry_out(pending, now=timezone.now())

    assert not handover.carry_out(stale, now=timezone.now())

    assert airflow.calls.count(TRIGGER) == 1


def test_a_command_waits_for_the_earlier_one_of_its_run(
    airflow: StagedAirflow, pending: AirflowCommand, ada: User
) -> None:
    AirflowCommand.objects.update(leased_until=later(20), attempts=1, may_have_arrived=True)
    run = Run.objects.get()
    services.stop_run(run=run, actor=ada)
    stop = AirflowCommand.objects.get(kind="stop")

    assert not handover.carry_out(stop, now=timezone.now())

    assert (owed(), airflow.marked) == (["trigger", "stop"], [])


# --- Stops ----------------------------------------------------------------------------------------------------


def test_a_run_stopped_before_it_was_handed_over_never_reaches_airflow(
    airflow: StagedAirflow, pending: AirflowCommand, ada: User
) -> None:
    run = services.stop_run(run=Run.objects.get(), actor=ada, note="wrong one")

    assert (run.state, run.state_reason) == ("stopped", "stopped by ada: wrong one")
    assert (story(run), owed(), airflow.writes) == (["workflow.triggered", "workflow.stopped"], [], [])


@pytest.mark.parametrize("done", [True, False], ids=["answer lost", "request lost"])
def test_a_run_stopped_while_it_is_unknown_whether_airflow_has_it_ends_there_too(
    airflow: StagedAirflow, nightly: Workflow, ada: User, done: bool
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=done))
    run = trigger(nightly)
    AirflowState.objects.update(reachable=True)
    services.stop_run(run=run, actor=ada)

    while owed() and carry_out():
        continue

    assert airflow.calls.count(TRIGGER) == 1
    assert [run["state"] for run in airflow.runs.values()] == (["failed"] if done else [])
    assert (refreshed(run).state, owed()) == ("stopping" if done else "stopped", [])


def test_a_run_stopped_after_it_was_handed_over_is_ended_in_airflow(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = services.stop_run(run=trigger(nightly), actor=ada)

    assert (run.state, owed()) == ("stopping", [])
    assert airflow.marked == [(run.dag_run_id, "failed")]


def test_a_stop_survives_a_lost_answer(airflow: StagedAirflow, nightly: Workflow, ada: User) -> None:
    run = trigger(nightly)
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    services.stop_run(run=run, actor=ada)
    assert (refreshed(run).state, owed()) == ("stopping", ["stop"])

    carry_out()

    assert (owed(), airflow.runs[run.dag_id, run.dag_run_id]["state"]) == ([], "failed")


def test_a_run_that_airflow_does_not_have_any_more_is_stopped(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = trigger(nightly)
    airflow.runs.clear()

    run = services.stop_run(run=run, actor=ada)

    assert (run.state, story(run)) == ("stopped", ["workflow.triggered", "workflow.stopped"])


def test_a_second_stop_is_refused_and_changes_nothing(airflow: StagedAirflow, nightly: Workflow, ada: User) -> None:
    run = services.stop_run(run=trigger(nightly), actor=ada)

    with pytest.raises(services.WrongStateError, match=r"^A run that is stopping can not be stopped\.$") as refused:
        services.stop_run(run=run, actor=ada)

    assert refused.value.extra["state"] == "stopping"
    assert AirflowCommand.objects.filter(kind="stop").count() == 1
    assert len(airflow.marked) == 1


# --- Retries --------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """A run of which `extract` went well, `transform` failed and `load` was not reached."""
    run = trigger(nightly)
    airflow.put(run, "failed", start=1, end=9)
    for name, state in (("extract", "success"), ("transform", "failed"), ("load", "upstream_failed")):
        airflow.put_task(run, name, state, start=2, end=5)
        run.tasks.create(task_id=name, state=state, try_number=1)
    Run.objects.move(run.pk, to=RunState.FAILED, ended_at=later(-60))
    return refreshed(run)


CLEARED: dict[str, dict[str, Any]] = {
    "failed": {"only_failed": True, "include_downstream": False},
    "all": {"only_failed": False, "include_downstream": False},
    "from_task": {"only_failed": False, "include_downstream": True, "task_ids": ["transform"]},
}


@pytest.mark.parametrize("mode", CLEARED)
def test_a_retry_clears_in_airflow_what_its_mode_says(
    airflow: StagedAirflow, failed: Run, ada: User, mode: str
) -> None:
    task_id = "transform" if mode == "from_task" else None

    run = services.retry_run(run=failed, actor=ada, mode=mode, task_id=task_id, note="again")

    assert (run.state, run.attempt, run.started_at, run.ended_at, owed()) == ("queued", 2, None, None, [])
    common: dict[str, Any] = {"dag_run_id": run.dag_run_id, "dry_run": False, "reset_dag_runs": True}
    assert airflow.cleared == [common | CLEARED[mode]]
    event = run.events.get(type="workflow.retried")
    assert event.data == {"state": "queued", "attempt": 2, "mode": mode, "note": "again", "by": "ada"}


def test_a_clear_whose_answer_was_lost_is_not_repeated(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    services.retry_run(run=failed, actor=ada)
    assert owed() == ["clear"]

    carry_out()

    assert (owed(), len(airflow.cleared)) == ([], 1)


def test_a_clear_that_did_not_get_through_is_repeated(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=False))
    services.retry_run(run=failed, actor=ada)
    assert (owed(), airflow.cleared) == (["clear"], [])

    carry_out()

    assert (owed(), len(airflow.cleared)) == ([], 1)


def test_a_retry_that_airflow_refuses_fails_the_run_again(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    airflow.next_api_calls.append(Reply(400, {"detail": "no"}))

    run = services.retry_run(run=failed, actor=ada)

    assert (run.state, run.state_reason) == ("failed", "Could not retry the run in Airflow: no")
    assert story(run)[-2:] == ["workflow.retried", "workflow.failed"]


def test_a_run_is_retried_and_stopped_in_this_order(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    AirflowState.objects.update(reachable=False)
    run = services.retry_run(run=failed, actor=ada)
    services.stop_run(run=run, actor=ada)
    assert owed() == ["clear", "stop"]

    carry_out()

    writes = [path.rsplit("/", 1)[-1] for _, path in airflow.writes[-2:]]
    assert writes == ["clearTaskInstances", run.dag_run_id]
    assert owed() == []


def test_a_dry_run_of_a_retry_lists_and_changes_nothing(airflow: StagedAirflow, failed: Run) -> None:
    refs = services.preview_retry(run=failed)

    assert refs == [("load", -1), ("transform", -1)]
    assert (refreshed(failed).state, failed.attempt, owed(), airflow.cleared) == ("failed", 1, [], [])


@pytest.mark.parametrize(
    ("state", "mode", "message"),
    [
        (RunState.RUNNING, "failed", "A run that is running can not be retried."),
        (RunState.STOPPING, "all", "A run that is stopping can not be retried."),
        (RunState.SUCCESS, "failed", "A run that is success can not be retried with mode failed: nothing has failed."),
    ],
)
def test_a_retry_that_does_not_fit_the_state_is_refused_and_changes_nothing(
    airflow: StagedAirflow, failed: Run, ada: User, state: RunState, mode: str, message: str
) -> None:
    Run.objects.filter(pk=failed.pk).update(state=state)

    with pytest.raises(services.WrongStateError) as refused:
        services.retry_run(run=refreshed(failed), actor=ada, mode=mode)

    assert str(refused.value) == message
    assert (refreshed(failed).state, failed.attempt, owed(), airflow.cleared) == (state, 1, [], [])


def test_a_retry_from_a_task_that_the_run_does_not_have_is_refused(
    airflow: StagedAirflow, failed: Run, ada: User
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        services.retry_run(run=failed, actor=ada, mode="from_task", task_id="nope")

    assert refused.value.errors == {"from_task": ["The run has no task 'nope'; it has: extract, load, transform."]}
    assert (refreshed(failed).attempt, owed(), airflow.cleared) == (1, [], [])


def test_a_task_is_named_only_with_the_mode_that_begins_at_one(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    with pytest.raises(InvalidInputError) as refused:
        services.retry_run(run=failed, actor=ada, mode="failed", task_id="transform")

    assert refused.value.errors == {"from_task": ["Goes with mode from_task."]}
    assert (refreshed(failed).attempt, owed(), airflow.cleared) == (1, [], [])


def test_a_stopped_run_retries_also_what_its_stop_skipped(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    Run.objects.filter(pk=failed.pk).update(state=RunState.STOPPED)
    for name, state in (("transform", "failed"), ("load", "skipped")):
        airflow.put_task(failed, name, state, start=2, end=5)
        failed.tasks.filter(task_id=name).update(state=state)

    services.retry_run(run=refreshed(failed), actor=ada)

    states = {key[2]: row["state"] for key, row in airflow.tasks.items()}
    assert states == {"extract": "success", "transform": None, "load": None}
