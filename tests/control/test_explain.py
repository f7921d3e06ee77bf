"""Why a run makes no progress: each reason, brought about in the staged Airflow, and who can do what about it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.staged import ControlledAirflow
from workflows import dag_sync, reconcile, upstream
from workflows.models import AirflowState, Dag, Run, TaskInstance, Workflow
from workflows.states import RunState
from workflows.tests.conftest import bearer, token_of
from workflows.tests.stage import new_run

pytestmark = pytest.mark.django_db

Told = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _watched(airflow: ControlledAirflow, nightly: Workflow) -> None:
    """The worker has mirrored the DAGs and looked at Airflow a moment ago."""
    dag_sync.sync_dags(now=timezone.now())
    assert reconcile.tick(now=timezone.now())


def explained(api: APIClient, run: Run) -> list[dict[str, str]]:
    answer = api.get(f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/explain")
    assert (answer.status_code, answer.json()["state"]) == (200, run.state)
    reasons: list[dict[str, str]] = answer.json()["reasons"]
    return reasons


def why(api: APIClient, run: Run) -> Told:
    """Code of each reason and who can act."""
    return [(reason["code"], reason["who"]) for reason in explained(api, run)]


def trigger(api: APIClient, workflow: Workflow, **body: Any) -> Run:
    answer = api.post(f"/api/v1/workflows/{workflow.pk}/runs", body)
    assert answer.status_code == 201
    return Run.objects.get(pk=answer.json()["id"])


def control(api: APIClient, run: Run, action: str) -> None:
    path = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/control"
    assert api.post(path, {"action": action}).status_code == 200
    run.refresh_from_db()


def with_task(run: Run, task_id: str, state: str) -> Run:
    TaskInstance.objects.create(run=run, task_id=task_id, state=state, try_number=1)
    return run


def test_a_run_that_nothing_holds_up_is_progressing(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)

    assert explained(api, run) == [
        {
            "code": "progressing",
            "reason": "Nothing holds it up: the scheduler will take it up next.",
            "who": "nobody",
            "action": "Wait.",
        }
    ]


def test_a_run_with_a_task_at_work_is_progressing_and_names_it(api: APIClient, nightly: Workflow) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "running")

    [reason] = explained(api, run)

    assert (reason["code"], reason["reason"]) == ("progressing", "Nothing holds it up: extract at work.")


def failed_run(airflow: ControlledAirflow, workflow: Workflow, *lines: dict[str, Any]) -> Run:
    """A run whose task `extract` has failed at its second and last try, with this log."""
    run = new_run(workflow, RunState.FAILED, state_reason="failed in Airflow: extract")
    TaskInstance.objects.create(run=run, task_id="extract", state="failed", try_number=2, max_tries=1)
    TaskInstance.objects.create(run=run, task_id="load", state="upstream_failed")
    airflow.logs[run.dag_id, run.dag_run_id, "extract", -1, 2] = list(lines)
    return run


TRACEBACK = {
    "event": "Task failed with exception",
    "level": "error",
    "error_detail": [{"exc_type": "ValueError", "exc_value": "no rows for 2026-03-01", "frames": []}],
}


def test_a_failed_run_names_the_task_that_failed_and_the_error_and_who_can_do_what(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(
        airflow, nightly, {"event": "12 rows", "level": "info"}, TRACEBACK, {"event": "bye", "level": "info"}
    )

    assert explained(api, run) == [
        {
            "code": "task_failed",
            "reason": "extract has failed on its try 2 of 2: ValueError: no rows for 2026-03-01",
            "who": "author",
            "action": "Read its log and mend the cause.",
        },
        {
            "code": "ended",
            "reason": "The run has ended: failed.",
            "who": "you",
            "action": "Retry it: what has failed and what follows (mode failed), or all of it.",
        },
    ]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            ["[2026-03-01] {taskinstance.py:1} ERROR - no", "Traceback:", "etl.errors.LoadError: full"],
            "etl.errors.LoadError: full",
        ),
        (["all is well", "TimeoutErrors: 7"], ""),
        ([], ""),
    ],
)
def test_the_error_is_found_in_a_log_without_levels_too(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, lines: list[str], error: str
) -> None:
    run = failed_run(airflow, nightly, *({"event": line} for line in lines))

    told, _ = explained(api, run)

    assert told["reason"] == f"extract has failed on its try 2 of 2{f': {error}' if error else '.'}"


def test_a_failed_run_is_explained_also_while_airflow_is_down(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    with airflow.away("refuses"):
        told, ended = explained(api, run)

    assert told["reason"] == "extract has failed on its try 2 of 2."
    assert (ended["code"], ended["who"]) == ("ended", "you")


def test_a_log_may_take_longer_than_a_trigger_and_that_is_no_outage(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.DISPATCH_BUDGET = 1e-6  # no answer comes so soon
    run = failed_run(airflow, nightly, TRACEBACK)

    told, _ = explained(api, run)

    assert told["reason"] == "extract has failed on its try 2 of 2: ValueError: no rows for 2026-03-01"
    assert upstream.answers()


def test_of_many_failed_tasks_all_are_named_and_a_few_logs_are_read(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED)
    for n in range(5):
        TaskInstance.objects.create(run=run, task_id="load", map_index=n, state="failed", try_number=1)
        airflow.logs[run.dag_id, run.dag_run_id, "load", n, 1] = [TRACEBACK]

    reasons = explained(api, run)

    tails = [": ValueError: no rows for 2026-03-01"] * 3 + ["."] * 2
    expected = [f"load[{n}] has failed on its try 1 of 1{tail}" for n, tail in enumerate(tails)]
    assert [reason["reason"] for reason in reasons] == [*expected, "The run has ended: failed."]


def test_who_may_not_retry_a_failed_run_is_told_whom_to_ask(
    airflow: ControlledAirflow, nightly: Workflow, vera: User
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)

    _, ended = explained(bearer(token_of(vera)), run)

    assert (ended["who"], ended["action"]) == ("operator", "Ask somebody who may control it to retry it.")


def test_a_failed_run_of_an_inactive_workflow_is_told_to_be_beyond_a_retry(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    Workflow.objects.update(is_active=False)

    _, ended = explained(api, run)

    text = "It can not be retried. The workflow is not active: set is_active to true first."
    assert (ended["who"], ended["action"]) == ("operator", text)


def test_a_run_that_could_not_be_handed_over_says_why(api: APIClient, nightly: Workflow) -> None:
    reason = "Could not hand the run over to Airflow: it did not answer; the deadline has passed"
    run = new_run(nightly, RunState.FAILED, state_reason=reason, queued_at=None)

    [ended] = explained(api, run)

    assert ended["reason"] == f"The run has ended: failed ({reason})."
    assert ended["action"] == "Trigger another one: Airflow never had this one, so nothing can be retried."


@pytest.mark.parametrize(
    ("actions", "shown"), [(["view"], "."), (["view", "logs"], ": ValueError: no rows for 2026-03-01")]
)
def test_a_ticket_without_logs_is_told_the_task_and_not_what_its_log_says(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, actions: list[str], shown: str
) -> None:
    run = failed_run(airflow, nightly, TRACEBACK)
    ticket = api.post("/api/v1/tickets", {"run_id": str(run.pk), "actions": actions, "ttl": 600}).json()["ticket"]
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Ticket {ticket}")

    told, ended = explained(client, run)

    assert told["reason"] == f"extract has failed on its try 2 of 2{shown}"
    assert ended["who"] == "operator"


@pytest.mark.parametrize("state", [RunState.SUCCESS, RunState.FAILED, RunState.STOPPED])
def test_a_run_that_has_ended_says_so_and_airflow_is_not_asked(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, state: RunState
) -> None:
    asked = len(airflow.requests)

    [reason] = explained(api, new_run(nightly, state))

    assert (reason["code"], reason["who"], reason["reason"]) == ("ended", "you", f"The run has ended: {state}.")
    assert len(airflow.requests) == asked


def test_a_delayed_run_says_when_it_starts(api: APIClient, airflow: ControlledAirflow, nightly: Workflow) -> None:
    run_at = timezone.now() + timedelta(hours=1)
    asked = len(airflow.requests)
    run = trigger(api, nightly, run_at=run_at.isoformat())

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("scheduled", "nobody")
    assert reason["reason"] == f"It is to start at {run_at:%Y-%m-%d %H:%M:%S} UTC."
    assert len(airflow.requests) == asked


def test_a_held_run_is_for_you_to_resume(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly, run_at=(timezone.now() + timedelta(hours=1)).isoformat())
    control(api, run, "pause")

    assert why(api, run) == [("held", "you"), ("scheduled", "nobody")]
    Run.objects.update(run_at=None)
    assert why(api, run) == [("held", "you")]


def test_a_run_of_a_paused_dag_is_for_you_to_resume(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)
    control(api, run, "pause")

    assert why(api, run) == [("dag_paused", "you")]

    control(api, run, "resume")
    assert why(api, run) == [("progressing", "nobody")]


def test_a_run_whose_dag_was_paused_in_airflow_is_told_after_a_sync(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    airflow.dags["etl"]["listed"]["is_paused"] = True
    dag_sync.sync_dags(now=timezone.now())

    assert why(api, run) == [("dag_paused", "you")]


def test_a_run_that_waits_for_an_airflow_that_is_down_names_the_error(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    with airflow.away("answers 503"):
        run = trigger(api, nightly)
        assert run.state == RunState.PENDING
        while upstream.is_closed():
            assert not reconcile.tick(now=timezone.now())

        down, owed = explained(api, run)

    assert (down["code"], down["who"]) == ("airflow_down", "operator")
    assert down["reason"] == "Airflow does not answer: down for maintenance."
    assert (owed["code"], owed["who"]) == ("not_handed_over", "operator")
    text = "Airflow could not be told to start it, 1 times so far: down for maintenance."
    assert owed["reason"] == text


def test_a_run_at_work_in_an_airflow_that_is_down_says_so_too(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.RUNNING)
    with airflow.away("answers 503"):
        assert not reconcile.tick(now=timezone.now())

        assert why(api, run) == [("airflow_down", "operator")]


def test_an_open_circuit_is_told_and_airflow_is_not_asked(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, settings: Settings
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_RESET = 1, 60
    upstream.breaker.cache_clear()
    run = new_run(nightly, RunState.RUNNING)
    with airflow.away("refuses"):
        assert not reconcile.tick(now=timezone.now())
    assert not upstream.is_closed()
    asked = len(airflow.requests)

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("airflow_down", "operator")
    assert reason["reason"].startswith("Airflow does not answer: ")
    assert len(airflow.requests) == asked


def test_an_outage_that_the_question_itself_comes_upon_is_not_called_progress(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    with airflow.away("answers 503"):
        assert why(api, run) == [("airflow_down", "operator")]


def test_an_airflow_that_nobody_watches_is_told(api: APIClient, nightly: Workflow, settings: Settings) -> None:
    run = trigger(api, nightly)
    long_ago = timezone.now() - timedelta(seconds=settings.STALE_AFTER + 1)
    AirflowState.objects.update(looked_at=long_ago)

    assert why(api, run) == [("not_watched", "operator")]


@pytest.mark.parametrize("status", ["healthy", "unhealthy"])
def test_a_scheduler_without_a_heartbeat_is_told_whatever_it_calls_itself(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow, status: str
) -> None:
    run = trigger(api, nightly)
    beat = timezone.now() - timedelta(seconds=31)
    airflow.health["scheduler"] = {"status": status, "latest_scheduler_heartbeat": beat.isoformat()}

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("scheduler_down", "operator")
    assert reason["reason"] == (f"Airflow's scheduler is not at work, its last heartbeat was at {beat:%H:%M:%S} UTC.")
    airflow.health["scheduler"] |= {"status": "healthy", "latest_scheduler_heartbeat": timezone.now().isoformat()}
    assert why(api, run) == [("progressing", "nobody")]


def test_a_dag_that_airflow_can_not_import_is_for_its_author(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    error = {"filename": "etl.py", "stack_trace": "SyntaxError: line 3", "timestamp": None, "bundle_name": "dags"}
    airflow.import_errors = [error]
    dag_sync.sync_dags(now=timezone.now())

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("import_error", "author")
    assert reason["reason"] == "Airflow can not import /opt/dags/etl.py."


def test_a_dag_that_airflow_does_not_have_any_more_is_for_its_author(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = trigger(api, nightly)
    airflow.dags.clear()
    dag_sync.sync_dags(now=timezone.now())

    assert why(api, run) == [("dag_gone", "author")]


def test_a_queued_run_behind_as_many_as_its_dag_may_have_is_told(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    for part in ("listed", "details"):
        airflow.dags["etl"][part]["max_active_runs"] = 2
    dag_sync.sync_dags(now=timezone.now())
    ahead = [new_run(nightly, RunState.RUNNING) for _ in range(2)]
    airflow.put(ahead[0], "running", start=0)
    run = trigger(api, nightly)
    assert why(api, run) == [("progressing", "nobody")]

    airflow.put(ahead[1], "running", start=0)

    [reason] = explained(api, run)
    assert (reason["code"], reason["who"]) == ("max_active_runs", "author")
    assert reason["reason"] == "2 runs of etl are at work and no more than 2 may be."


def test_a_task_that_waits_for_a_slot_of_its_full_pool_is_for_an_operator(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "scheduled")
    airflow.pools[0]["open_slots"] = 0

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == ("pool_full", "operator")
    assert reason["reason"] == "extract waits for a slot: all 128 of the pool default_pool are taken."
    airflow.pools[0]["open_slots"] = 1
    assert why(api, run) == [("progressing", "nobody")]


@pytest.mark.parametrize(
    ("state", "told"), [("up_for_retry", ("up_for_retry", "nobody")), ("queued", ("task_queued", "operator"))]
)
def test_a_task_that_waits_is_named(api: APIClient, nightly: Workflow, state: str, told: tuple[str, str]) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", state)

    [reason] = explained(api, run)

    assert (reason["code"], reason["who"]) == told
    assert reason["reason"].startswith("extract ")


def test_a_run_that_is_stopping_says_what_it_waits_for(api: APIClient, nightly: Workflow) -> None:
    run = trigger(api, nightly)
    control(api, run, "stop")

    assert why(api, run) == [("stopping", "nobody")]


def test_several_reasons_are_told_the_nearest_first(
    api: APIClient, airflow: ControlledAirflow, nightly: Workflow
) -> None:
    run = with_task(new_run(nightly, RunState.RUNNING), "extract", "queued")
    Dag.objects.update(is_paused=True, import_error="SyntaxError")
    airflow.health["scheduler"] = {"status": "unhealthy"}
    airflow.pools[0]["open_slots"] = 0

    assert why(api, run) == [
        ("import_error", "author"),
        ("dag_paused", "you"),
        ("scheduler_down", "operator"),
        ("pool_full", "operator"),
    ]
