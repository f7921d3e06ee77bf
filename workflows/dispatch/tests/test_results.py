"""The result of a run that has succeeded: owed from its end on, read from Airflow, recorded once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import services
from workflows.airflow.tests.scripted import Reply
from workflows.dispatch.tests.steps import dispatch_pending, refreshed, waiting
from workflows.lifecycle import results
from workflows.models import AirflowCommand, Event, Run, RunResult, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, dag_run, new_run, story, task
from workflows.watch.observation import Observation
from workflows.watch.observe import observe

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def reporting(nightly: Workflow) -> Workflow:
    """A workflow whose result is what `load` returns."""
    nightly.result_task = "load"
    nightly.save()
    return nightly


def succeeded(airflow: StagedAirflow, workflow: Workflow, *tasks: tuple[str, str, int]) -> Run:
    """Return a run that has just succeeded, with these tasks: name, state, index. Its result was not read at once."""
    run = new_run(workflow, RunState.RUNNING, started_at=NOW)
    end(airflow, run, *(tasks or [("load", "success", -1)]))
    return run


def end(airflow: StagedAirflow, run: Run, *tasks: tuple[str, str, int]) -> None:
    now = timezone.now()
    start = (now - NOW).total_seconds()
    airflow.put(run, "success", start=start, end=start + 1)
    seen = [task(run, name, state, start=start, end=start + 1, index=index) for name, state, index in tasks]
    shown = dag_run(run, "success", start=start, end=start + 1)
    observe(run.pk, Observation(at=now + timedelta(seconds=2), run=shown, tasks=seen, all_tasks=True))


def shown(run: Run) -> dict[str, Any]:
    return {**results.shown(Run.objects.select_related("result", "workflow").get(pk=run.pk))}


def event_of(run: Run) -> Any:
    return run.events.get(type="workflow.result").data


def test_the_end_of_a_run_does_not_wait_for_its_result(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)

    assert (refreshed(run).state, waiting()) == ("success", ["result"])
    assert run.events.get(type="workflow.completed").data["result"] == {
        "state": "pending",
        "task_id": "load",
        "value": None,
        "size": None,
        "reason": "It is still to be read from Airflow.",
        "reference": "",
    }
    assert shown(run)["state"] == "pending"


@pytest.mark.parametrize(
    "value", [{"rows": 12, "ok": True}, [1, None], "text", 0, 1.5, False, None, {"café": "\N{SNOWMAN}"}], ids=str
)
def test_the_return_value_of_the_task_is_the_result(airflow: StagedAirflow, reporting: Workflow, value: Any) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", value)

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["value"], waiting()) == ("ready", value, [])
    assert event_of(run)["result"] == shown(run)
    assert story(run)[-2:] == ["workflow.completed", "workflow.result"]
    assert Event.objects.get(type="workflow.result").data["attempt"] == 1


def test_tuples_are_lists_and_what_json_does_not_know_is_as_airflow_writes_it(
    airflow: StagedAirflow, reporting: Workflow
) -> None:
    run = succeeded(airflow, reporting)
    moment = {"__classname__": "datetime.datetime", "__version__": 2, "__data__": {"timestamp": 0.0}}
    pair = {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1, moment]}
    airflow.put_result(run, "load", {"pair": pair, "odd": {"__classname__": ["x"], "__data__": []}})

    dispatch_pending()

    assert shown(run)["value"] == {"pair": [1, moment], "odd": {"__classname__": ["x"], "__data__": []}}


def test_what_a_database_cannot_store_is_replaced(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", {"nul": "a\0b", "nan": float("nan")})

    dispatch_pending()

    assert shown(run)["value"] == {"nul": "a\N{REPLACEMENT CHARACTER}b", "nan": "NaN"}


@pytest.mark.parametrize(("length", "state"), [(1022, "ready"), (1023, "too_large"), (100_000, "too_large")])
def test_a_result_that_is_too_large_stays_in_airflow(
    airflow: StagedAirflow, reporting: Workflow, settings: Settings, length: int, state: str
) -> None:
    settings.RESULT_MAX_BYTES = 1024
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", "x" * length)

    dispatch_pending()

    result = shown(run)
    assert result["state"] == state
    if state == "too_large":
        assert result["value"] is None
        # The longest one was not read to its end.
        assert result["size"] == (length + 2 if length < 2000 else None)
        assert result["reason"] == "The result is larger than RESULT_MAX_BYTES (1024 bytes): read it from Airflow."
        where = f"dags/etl/dagRuns/{run.dag_run_id}/taskInstances/load/xcomEntries/return_value"
        assert result["reference"] == where


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([("load", "success", -1)], "The task load has returned nothing."),
        ([("load", "skipped", -1)], "The task load has not succeeded: it is skipped."),
        ([("load", "failed", -1)], "The task load has not succeeded: it is failed."),
        ([("extract", "success", -1)], "The run had no task load."),
    ],
)
def test_a_task_that_has_returned_nothing_leaves_no_result(
    airflow: StagedAirflow, reporting: Workflow, tasks: list[Any], reason: str
) -> None:
    run = succeeded(airflow, reporting, *tasks)

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["reason"], waiting()) == ("missing", reason, [])


def test_a_mapped_task_has_a_list_of_results_in_the_order_of_its_instances(
    airflow: StagedAirflow, reporting: Workflow
) -> None:
    run = succeeded(airflow, reporting, *[("load", "success" if i != 1 else "skipped", i) for i in (2, 1, 0)])
    airflow.put_result(run, "load", "first", index=0)
    airflow.put_result(run, "load", {"n": 3}, index=2)

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["value"]) == ("ready", ["first", None, {"n": 3}])


def test_the_results_of_too_many_instances_stay_in_airflow(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting, *[("load", "success", index) for index in range(101)])
    before = len(airflow.calls)

    dispatch_pending()

    assert shown(run)["state"] == "too_large"
    assert shown(run)["reason"].startswith("The task load has 101 instances, more than 100")
    assert [call for call in airflow.calls[before:] if "xcomEntries" in call[1]] == []


def test_the_results_of_all_instances_together_are_bounded(
    airflow: StagedAirflow, reporting: Workflow, settings: Settings
) -> None:
    settings.RESULT_MAX_BYTES = 1024
    run = succeeded(airflow, reporting, ("load", "success", 0), ("load", "success", 1))
    for index in (0, 1):
        airflow.put_result(run, "load", "x" * 600, index=index)

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["size"]) == ("too_large", 1207)


def test_a_result_is_read_when_airflow_is_back(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", 7)
    airflow.next_api_calls += [Reply(503), Reply(503)]

    dispatch_pending()
    assert (shown(run)["state"], waiting()) == ("pending", ["result"])
    dispatch_pending()
    dispatch_pending()

    assert (shown(run)["value"], waiting(), AirflowCommand.objects.get().attempts) == (7, [], 3)


def test_a_right_that_is_missing_is_said_and_not_asked_for_again(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    path = f"/dags/etl/dagRuns/{run.dag_run_id}/taskInstances/load/xcomEntries/return_value"
    airflow.answers["GET", path] = lambda _: Reply(403, {"detail": "Forbidden"})

    dispatch_pending()

    assert (shown(run)["state"], waiting()) == ("unavailable", [])
    why = "SVOps' user in Airflow may not read what the tasks return (XComs) of the DAG etl (Forbidden)"
    assert shown(run)["reason"] == why
    assert event_of(run)["result"]["reason"] == why
    reporting.dag.refresh_from_db()
    assert reporting.dag.refused == []


def test_a_result_that_airflow_does_not_give_for_too_long_is_unavailable(
    airflow: StagedAirflow, reporting: Workflow
) -> None:
    run = succeeded(airflow, reporting)
    AirflowCommand.objects.update(created_at=NOW)
    airflow.next_api_calls.append(Reply(503, {"detail": "not now"}))

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["reason"], waiting()) == ("unavailable", "not now", [])


def test_a_run_that_was_deleted_in_airflow_has_no_result_any_more(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    airflow.runs.clear()

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["reason"]) == ("unavailable", "The run was deleted in Airflow.")
    assert story(run)[-2:] == ["workflow.external_change deleted", "workflow.result"]


def test_a_retry_waits_for_no_result_and_replaces_it(airflow: StagedAirflow, reporting: Workflow, ada: User) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_task(run, "load", "success", start=1, end=2)
    airflow.put_result(run, "load", "old")
    services.retry_run(run=refreshed(run), actor=ada, mode="all")
    assert [row["dag_run_id"] for row in airflow.cleared] == [run.dag_run_id]
    assert (shown(run)["state"], shown(run)["reason"]) == ("pending", "The run has not ended.")

    dispatch_pending()
    assert (waiting(), RunResult.objects.get().state) == ([], "pending")
    assert not run.events.filter(type="workflow.result").exists()
    airflow.put_result(run, "load", "new")
    end(airflow, run, ("load", "success", -1))
    dispatch_pending()

    assert (shown(run)["value"], RunResult.objects.get().attempt) == ("new", 2)
    assert (event_of(run)["attempt"], event_of(run)["result"]["value"]) == (2, "new")


def test_a_result_of_an_attempt_before_is_not_shown_while_and_after_the_next_one_fails(
    airflow: StagedAirflow, reporting: Workflow
) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", "old")
    dispatch_pending()
    Run.objects.update(attempt=2, state=RunState.RUNNING)
    assert (shown(run)["state"], shown(run)["value"]) == ("pending", None)

    Run.objects.update(state=RunState.FAILED)

    assert (shown(run)["state"], shown(run)["value"]) == ("none", None)
    assert shown(run)["reason"] == "Only a run that has succeeded has a result."


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.STOPPED])
def test_a_run_that_has_not_succeeded_has_no_result(reporting: Workflow, state: RunState) -> None:
    run = new_run(reporting, state)

    assert (shown(run)["state"], shown(run)["reason"]) == ("none", "Only a run that has succeeded has a result.")


def test_a_workflow_without_a_result_task_owes_nothing(airflow: StagedAirflow, nightly: Workflow) -> None:
    run = succeeded(airflow, nightly)

    assert (waiting(), run.events.get(type="workflow.completed").data["result"]) == ([], None)
    assert shown(run)["state"] == "none"
    nightly.result_task = "load"
    nightly.save()
    assert (shown(run)["state"], shown(run)["reason"]) == (
        "none",
        "The workflow named no result_task when the run ended.",
    )


def test_a_result_is_recorded_once(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    airflow.put_result(run, "load", 1)
    dispatch_pending()
    airflow.put_result(run, "load", 2)
    AirflowCommand.objects.update(finished_at=None)

    dispatch_pending()

    assert (shown(run)["value"], run.events.filter(type="workflow.result").count()) == (1, 1)


def test_a_value_that_is_nested_too_deeply_is_unavailable(airflow: StagedAirflow, reporting: Workflow) -> None:
    run = succeeded(airflow, reporting)
    path = f"/dags/etl/dagRuns/{run.dag_run_id}/taskInstances/load/xcomEntries/return_value"
    airflow.answers["GET", path] = lambda _: Reply(200, b'{"value": ' + b"[" * 20_000 + b"]" * 20_000 + b"}")

    dispatch_pending()

    assert (shown(run)["state"], shown(run)["reason"]) == ("unavailable", "the value is nested too deeply")
