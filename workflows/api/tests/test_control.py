"""Stop and retry over the REST API."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import User
from workflows.airflow.tests.scripted import Reply
from workflows.api.tests.asking import AsUser, path_of, refused
from workflows.models import Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, new_run

pytestmark = pytest.mark.django_db


def test_a_run_is_stopped(as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    airflow.put(run, "running", start=1)

    answer = as_user(ada).post(f"{path_of(run)}/control", {"action": "stop", "note": "wrong dataset"})

    assert (answer.status_code, answer.json()["state"]) == (200, "stopping")
    assert answer.json()["state_reason"] == "stopped by ada: wrong dataset"
    assert airflow.marked == [(run.dag_run_id, "failed")]


def test_a_failed_run_is_retried_and_its_earlier_attempt_is_kept(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED, state_reason="broken", started_at=at(1), ended_at=at(9))
    run.tasks.create(task_id="extract", state="failed", try_number=1)
    airflow.put(run, "failed", start=1, end=9)
    airflow.put_task(run, "extract", "failed", start=2, end=5)
    client = as_user(ada)

    preview = client.post(f"{path_of(run)}/control", {"action": "retry", "dry_run": True})
    assert preview.json() == {"would_run": [{"task_id": "extract", "map_index": -1}]}
    answer = client.post(f"{path_of(run)}/control", {"action": "retry"})

    assert (answer.json()["state"], answer.json()["attempt"], answer.json()["state_reason"]) == ("queued", 2, "")
    assert client.get(path_of(run)).json()["attempts"] == [
        {
            "number": 1,
            "state": "failed",
            "state_reason": "broken",
            "failed_tasks": ["extract"],
            "started_at": "2026-03-01T12:00:01Z",
            "ended_at": "2026-03-01T12:00:09Z",
        }
    ]


@pytest.mark.parametrize(
    ("state", "action", "detail"),
    [
        ("success", "stop", "A run that is success cannot be stopped."),
        ("stopped", "stop", "A run that is stopped cannot be stopped."),
        ("stopping", "stop", "A run that is stopping cannot be stopped."),
        ("running", "retry", "A run that is running cannot be retried."),
        ("success", "retry", "A run that is success cannot be retried with mode failed: nothing has failed."),
        ("success", "pause", "A run that is success cannot be paused."),
        ("running", "resume", "A run that is running cannot be resumed: it is not paused."),
    ],
)
def test_an_action_that_does_not_fit_the_state_is_a_conflict_with_that_state(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow, state: str, action: str, detail: str
) -> None:
    run = new_run(nightly, RunState(state))
    client = as_user(ada)

    body = refused(lambda: client.post(f"{path_of(run)}/control", {"action": action}), 409, "wrong_state",
                   state=state, paused=False, run_id=str(run.pk))  # fmt: skip

    assert body["detail"] == detail
    assert airflow.requests == []


ONE_OF = "Unknown field; expected one of action, dry_run, from_task, map_index, mode, note, scope."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"action": ["This field is required."]}),
        ({"action": "dance"}, {"action": ["Expected one of pause, resume, retry, stop."]}),
        ({"action": "stop", "mode": "all"}, {"mode": ["Only allowed for the action retry."]}),
        ({"action": "retry", "mode": "some"}, {"mode": ["Expected one of all, failed, from_task."]}),
        ({"action": "retry", "mode": "from_task"}, {"from_task": ["Required for mode from_task, and only there."]}),
        ({"action": "retry", "from_task": "load"}, {"from_task": ["Required for mode from_task, and only there."]}),
        ({"action": "retry", "mode": "from_task", "from_task": "nope"},
         {"from_task": ["The run has no task 'nope'; it has: extract."]}),
        ({"action": "retry", "mode": "from_task", "from_task": "extract", "map_index": 3},
         {"map_index": ["The task 'extract' has no instance 3; it has -1 to -1."]}),
        ({"action": "retry", "mode": "from_task", "from_task": "extract", "map_index": -2},
         {"map_index": ["Ensure this value is greater than or equal to -1."]}),
        ({"action": "retry", "map_index": 0}, {"map_index": ["Only allowed with mode from_task."]}),
        ({"action": "stop", "map_index": 0}, {"map_index": ["Only allowed for the action retry."]}),
        ({"action": "retry", "force": True}, {"force": [ONE_OF]}),
    ],
)  # fmt: skip
def test_a_wrong_field_of_a_control_is_named(
    as_user: AsUser, ada: User, nightly: Workflow, body: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    run = new_run(nightly, RunState.FAILED)
    run.tasks.create(task_id="extract", state="failed")
    client = as_user(ada)

    refused(lambda: client.post(f"{path_of(run)}/control", body), 400, "invalid", errors=errors)


@pytest.mark.usefixtures("no_airflow")
def test_a_dry_run_without_airflow_says_so(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.FAILED)
    run.tasks.create(task_id="extract", state="failed")

    answer = as_user(ada).post(f"{path_of(run)}/control", {"action": "retry", "dry_run": True})

    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
    assert answer.json()["detail"].startswith("Airflow does not answer: no answer from Airflow")


def test_a_dry_run_that_airflow_refuses_is_a_bad_gateway(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED)
    run.tasks.create(task_id="extract", state="failed")
    airflow.next_api_calls.append(Reply(400, {"detail": "no"}))
    client = as_user(ada)

    body = refused(
        lambda: client.post(f"{path_of(run)}/control", {"action": "retry", "dry_run": True}), 502, "upstream_error"
    )

    assert body["detail"] == "Airflow refuses: no"
