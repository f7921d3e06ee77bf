"""A retry clears tasks in Airflow once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from accounts.models import User
from rest.errors import InvalidInputError
from workflows import services
from workflows.airflow.tests.scripted import HangUp, Reply
from workflows.dispatch.tests.steps import dispatch_pending, later, refreshed, trigger, waiting
from workflows.eventlog.events import RetryMode
from workflows.models import Airflow, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, story

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def failed(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """A run whose `extract` succeeded, `transform` failed and `load` was not reached."""
    run = trigger(nightly)
    airflow.put(run, "failed", start=1, end=9)
    for name, state in (("extract", "success"), ("transform", "failed"), ("load", "upstream_failed")):
        airflow.put_task(run, name, state, start=2, end=5)
        run.tasks.create(task_id=name, state=state, try_number=1)
    Run.objects.move(run.pk, to=RunState.FAILED, ended_at=later(-60))
    return refreshed(run)


CLEARED: dict[str, dict[str, Any]] = {
    "failed": {"only_failed": False, "include_downstream": False, "task_ids": ["load", "transform"]},
    "all": {"only_failed": False, "include_downstream": False},
    "from_task": {"only_failed": False, "include_downstream": False, "task_ids": ["load", "transform"]},
}


@pytest.mark.parametrize("mode", CLEARED)
def test_a_retry_clears_in_airflow_what_its_mode_says(
    airflow: StagedAirflow, failed: Run, ada: User, mode: RetryMode
) -> None:
    task_id = "transform" if mode == "from_task" else None

    run = services.retry_run(run=failed, actor=ada, mode=mode, task_id=task_id, note="again")

    assert (run.state, run.attempt, run.started_at, run.ended_at, waiting()) == ("queued", 2, None, None, [])
    common: dict[str, Any] = {"dag_run_id": run.dag_run_id, "dry_run": False, "reset_dag_runs": True}
    assert airflow.cleared == [common | CLEARED[mode]]
    event = run.events.get(type="workflow.retried")
    assert event.data == {
        "state": "queued",
        "attempt": 2,
        "airflow": "default",
        "mode": mode,
        "note": "again",
        "by": "ada",
    }


def retry_later(run: Run, actor: User) -> Run:
    """Retry while Airflow does not answer, so that only the clear is sent to it later."""
    Airflow.default()
    Airflow.objects.update(reachable=False)
    return services.retry_run(run=run, actor=actor)


def test_a_clear_whose_answer_was_lost_is_not_repeated(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    retry_later(failed, ada)
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    dispatch_pending()
    assert waiting() == ["clear"]

    dispatch_pending()

    assert (waiting(), len(airflow.cleared)) == ([], 1)


def test_a_clear_that_did_not_get_through_is_repeated(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    retry_later(failed, ada)
    airflow.next_api_calls.append(HangUp(after_doing_it=False))
    dispatch_pending()
    assert (waiting(), airflow.cleared) == (["clear"], [])

    dispatch_pending()

    assert (waiting(), len(airflow.cleared)) == ([], 1)


def test_a_retry_that_airflow_refuses_fails_the_run_again(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    run = retry_later(failed, ada)
    airflow.next_api_calls.append(Reply(400, {"detail": "no"}))

    dispatch_pending()

    refreshed(run)
    assert (run.state, run.state_reason) == ("failed", "Could not retry the run in Airflow: no")
    assert story(run)[-2:] == ["workflow.retried", "workflow.failed"]


@pytest.mark.parametrize("mode", ["failed", "from_task"])
def test_a_retry_of_one_mapped_instance_clears_only_this_one(
    airflow: StagedAirflow, failed: Run, ada: User, mode: RetryMode
) -> None:
    failed.tasks.filter(task_id="transform").delete()
    for index, state in ((0, "success"), (1, "failed")):
        failed.tasks.create(task_id="transform", map_index=index, state=state, try_number=1)
        airflow.put_task(failed, "transform", state, start=2, end=5, index=index)
    begin: dict[str, Any] = {"task_id": "transform", "map_index": 1} if mode == "from_task" else {}

    refs = services.preview_retry(run=failed, mode=mode, **begin)
    services.retry_run(run=failed, actor=ada, mode=mode, **begin)

    assert refs == [("load", -1), ("transform", 1)]
    assert [body["task_ids"] for body in airflow.cleared] == [["load", ["transform", 1]]]


def test_airflow_2_repeats_no_single_instance(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    Airflow.default()
    Airflow.objects.update(version="2.11.2")
    failed.tasks.create(task_id="transform", map_index=1, state="failed", try_number=1)

    with pytest.raises(InvalidInputError) as refused:
        services.retry_run(run=failed, actor=ada, mode="from_task", task_id="transform", map_index=1)

    assert refused.value.errors == {"map_index": ["Airflow 2 can only run all instances of a mapped task again."]}
    assert (refreshed(failed).attempt, waiting(), airflow.cleared) == (1, [], [])


@pytest.mark.parametrize("mode", ["failed", "all"])
def test_a_retry_that_would_run_nothing_is_refused_and_changes_nothing(
    airflow: StagedAirflow, failed: Run, ada: User, mode: RetryMode
) -> None:
    if mode == "failed":
        failed.tasks.update(state="success")
    else:
        failed.tasks.all().delete()
    before = story(failed)

    for ask in (services.preview_retry, lambda **what: services.retry_run(actor=ada, **what)):
        with pytest.raises(services.WrongStateError) as refused:
            ask(run=failed, mode=mode)
        assert str(refused.value) == f"A run that is failed cannot be retried with mode {mode}: nothing would run."

    assert (refreshed(failed).state, failed.attempt, story(failed), waiting()) == ("failed", 1, before, [])
    assert airflow.cleared == []


def test_a_retry_for_which_airflow_has_nothing_to_clear_fails_the_run_again(
    airflow: StagedAirflow, failed: Run, ada: User
) -> None:
    airflow.tasks.clear()

    run = services.retry_run(run=failed, actor=ada)

    reason = "Could not retry the run in Airflow: Airflow has nothing to run again"
    assert (run.state, run.state_reason, waiting()) == ("failed", reason, [])


def test_a_run_is_retried_and_stopped_in_this_order(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    Airflow.objects.update(reachable=False)
    run = services.retry_run(run=failed, actor=ada)
    services.stop_run(run=run, actor=ada)
    assert waiting() == ["clear", "stop"]

    dispatch_pending()

    writes = [path.rsplit("/", 1)[-1] for _, path in airflow.writes[-2:]]
    assert writes == ["clearTaskInstances", run.dag_run_id]
    assert waiting() == []


def test_a_dry_run_of_a_retry_lists_and_changes_nothing(airflow: StagedAirflow, failed: Run) -> None:
    refs = services.preview_retry(run=failed)

    assert refs == [("load", -1), ("transform", -1)]
    assert (refreshed(failed).state, failed.attempt, waiting(), airflow.cleared) == ("failed", 1, [], [])


@pytest.mark.parametrize(
    ("state", "mode", "message"),
    [
        (RunState.RUNNING, "failed", "A run that is running cannot be retried."),
        (RunState.STOPPING, "all", "A run that is stopping cannot be retried."),
        (RunState.SUCCESS, "failed", "A run that is success cannot be retried with mode failed: nothing has failed."),
    ],
)
def test_a_retry_that_does_not_fit_the_state_is_refused_and_changes_nothing(
    airflow: StagedAirflow, failed: Run, ada: User, state: RunState, mode: RetryMode, message: str
) -> None:
    Run.objects.filter(pk=failed.pk).update(state=state)

    with pytest.raises(services.WrongStateError) as refused:
        services.retry_run(run=refreshed(failed), actor=ada, mode=mode)

    assert str(refused.value) == message
    assert (refreshed(failed).state, failed.attempt, waiting(), airflow.cleared) == (state, 1, [], [])


def test_a_retry_from_a_task_that_the_run_does_not_have_is_refused(
    airflow: StagedAirflow, failed: Run, ada: User
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        services.retry_run(run=failed, actor=ada, mode="from_task", task_id="nope")

    assert refused.value.errors == {"from_task": ["The run has no task 'nope'; it has: extract, load, transform."]}
    assert (refreshed(failed).attempt, waiting(), airflow.cleared) == (1, [], [])


def test_a_task_is_named_only_with_the_mode_that_begins_at_one(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    with pytest.raises(InvalidInputError) as refused:
        services.retry_run(run=failed, actor=ada, mode="failed", task_id="transform")

    assert refused.value.errors == {"from_task": ["Only allowed with mode from_task."]}
    assert (refreshed(failed).attempt, waiting(), airflow.cleared) == (1, [], [])


def test_a_stopped_run_retries_also_what_its_stop_skipped(airflow: StagedAirflow, failed: Run, ada: User) -> None:
    Run.objects.filter(pk=failed.pk).update(state=RunState.STOPPED)
    for name, state in (("transform", "failed"), ("load", "skipped")):
        airflow.put_task(failed, name, state, start=2, end=5)
        failed.tasks.filter(task_id=name).update(state=state)

    services.retry_run(run=refreshed(failed), actor=ada)

    states = {key[2]: row["state"] for key, row in airflow.tasks.items()}
    assert states == {"extract": "success", "transform": None, "load": None}


@pytest.mark.parametrize("state", [RunState.SUCCESS, RunState.FAILED])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_retry_of_a_run_that_was_deleted_in_airflow_is_refused_and_recorded_once(
    airflow: StagedAirflow, failed: Run, ada: User, state: RunState, dry_run: bool
) -> None:
    Run.objects.filter(pk=failed.pk).update(state=state)
    airflow.runs.clear()
    airflow.tasks.clear()
    known = len(story(failed))

    ask: Any = services.preview_retry if dry_run else partial(services.retry_run, actor=ada)

    for _ in range(2):
        with pytest.raises(services.WrongStateError) as refused:
            ask(run=refreshed(failed), mode="all")
        assert str(refused.value) == f"A run that is {state} cannot be retried: it was deleted in Airflow."

    assert story(failed)[known:] == ["workflow.external_change deleted"]
    assert (refreshed(failed).state, failed.attempt, waiting(), airflow.cleared) == (state, 1, [], [])
