"""A trigger ends in one run in Airflow, whatever happens in between."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import Settings

from workflows import gateway
from workflows.airflow.tests.scripted import HangUp, Hold, Reply
from workflows.dispatch.tests.steps import TRIGGER, dispatch_pending, later, refreshed, trigger, waiting
from workflows.models import AirflowCommand, DataInterval, Workflow
from workflows.tests.stage import StagedAirflow, conf_of_ours, log, story

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_trigger_dispatches_the_run_at_once(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = trigger(nightly, parameters={"rows": 5}, caller_task_ref=7, caller_dataset_ref="d-1", note="please")

    assert (run.state, run.queued_at is not None, waiting()) == ("queued", True, [])
    [theirs] = airflow.runs.values()
    assert theirs["dag_run_id"] == f"svops__{run.pk}"
    ours = conf_of_ours(run, 7, "d-1")
    assert theirs["conf"] == {"rows": 5, "task_id": 7, "dataset_id": "d-1", "svops": ours}
    assert theirs["note"] == "please"


@pytest.mark.parametrize(
    "fault",
    [
        HangUp(after_doing_it=True),
        HangUp(after_doing_it=False),
        Reply(500, b"<html>Ooops</html>"),
        Reply(503, {"detail": "later"}),
        Reply(200, b"not JSON"),
        Reply(403, b"<html>Sign in</html>"),
    ],
    ids=["answer lost", "request lost", "500", "503", "nonsense", "a proxy's 403"],
)
def test_a_fault_of_the_dispatch_ends_in_one_run(airflow: StagedAirflow, nightly: Workflow, fault: Any) -> None:
    airflow.next_api_calls.append(fault)
    run = trigger(nightly)
    assert (run.state, waiting()) == ("pending", ["trigger"])

    dispatch_pending()

    assert (refreshed(run).state, waiting()) == ("queued", [])
    assert list(airflow.runs) == [("etl", f"svops__{run.pk}")]
    assert AirflowCommand.objects.get().attempts == 2


def test_a_timeout_ends_in_one_run(airflow: StagedAirflow, nightly: Workflow, settings: Settings) -> None:
    settings.AIRFLOW_READ_TIMEOUT = settings.DISPATCH_BUDGET = 0.5
    gateway.pooled_client.cache_clear()
    held = Hold()
    airflow.next_api_calls.append(held)
    run = trigger(nightly)
    assert (run.state, waiting()) == ("pending", ["trigger"])

    held.released.set()
    dispatch_pending()

    assert refreshed(run).state == "queued"
    assert list(airflow.runs) == [("etl", f"svops__{run.pk}")]


@pytest.mark.usefixtures("no_airflow")
def test_without_airflow_a_trigger_is_accepted_and_says_so(nightly: Workflow) -> None:
    run = trigger(nightly)

    assert (run.state, story(run), waiting()) == ("pending", ["workflow.triggered"], ["trigger"])
    command = AirflowCommand.objects.get()
    assert command.attempts == 1
    assert command.last_error.startswith("no answer from Airflow")
    assert command.leased_until is None
    assert command.due_at > command.created_at
    assert log() == ["workflow.triggered", "system.airflow_down"]


@pytest.mark.usefixtures("no_airflow")
def test_while_airflow_is_known_to_be_down_a_trigger_does_not_ask_it(nightly: Workflow) -> None:
    trigger(nightly)

    second = trigger(nightly)

    assert second.commands.get().attempts == 0
    assert log() == ["workflow.triggered", "system.airflow_down", "workflow.triggered"]


def test_a_trigger_that_airflow_rejects_fails_the_run_with_the_reason(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    airflow.next_api_calls.append(Reply(400, {"detail": "Invalid input for param rows: no"}))

    run = trigger(nightly)

    reason = "Could not dispatch the run to Airflow: Invalid input for param rows: no"
    assert (run.state, run.state_reason, run.ended_at is not None) == ("failed", reason, True)
    assert (story(run), waiting(), airflow.runs) == (["workflow.triggered", "workflow.failed"], [], {})
    assert run.events.get(type="workflow.failed").data["reason"] == reason


def test_a_logical_date_that_another_run_has_fails_the_run_with_the_reason(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    date = datetime(2026, 3, 1, tzinfo=UTC)
    first = trigger(nightly, logical_date=date)

    second = trigger(nightly, logical_date=date)

    reason = "another run of the DAG has the logical date 2026-03-01T00:00:00+00:00"
    assert (second.state, second.state_reason) == ("failed", f"Could not dispatch the run to Airflow: {reason}")
    assert (second.commands.get().attempts, waiting()) == (1, [])
    assert list(airflow.runs) == [("etl", first.dag_run_id)]


def test_a_lost_answer_to_a_trigger_with_dates_ends_in_one_run(airflow: StagedAirflow, nightly: Workflow) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    date, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
    run = trigger(nightly, logical_date=date, data_interval=DataInterval(date, end))

    dispatch_pending()

    assert (refreshed(run).state, run.logical_date, run.data_interval) == ("queued", date, (date, end))
    [theirs] = airflow.runs.values()
    assert theirs["logical_date"] == theirs["data_interval_start"] == "2026-03-01T00:00:00+00:00"
    assert theirs["data_interval_end"] == "2026-03-02T00:00:00+00:00"


@pytest.mark.usefixtures("no_airflow")
def test_after_the_deadline_a_run_that_was_not_dispatched_fails(nightly: Workflow, settings: Settings) -> None:
    run = trigger(nightly)
    AirflowCommand.objects.update(created_at=later(-settings.DISPATCH_DEADLINE - 1))

    dispatch_pending()

    assert (refreshed(run).state, waiting()) == ("failed", [])
    assert run.state_reason.startswith("Could not dispatch the run to Airflow: no answer from Airflow")
    assert story(run) == ["workflow.triggered", "workflow.failed"]


def test_a_run_that_airflow_has_by_now_is_adopted_as_far_as_it_has_come(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    run = trigger(nightly)
    airflow.put(run, "running", start=1)

    dispatch_pending()

    assert refreshed(run).state == "queued"
    assert airflow.calls.count(TRIGGER) == 2
