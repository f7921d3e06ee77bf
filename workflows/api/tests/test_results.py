"""The result of a run over the REST API, and the task of a workflow that gives it."""

from __future__ import annotations

import pytest

from accounts.models import User
from workflows.api.tests.asking import V1, AsUser, path_of, refused
from workflows.models import Airflow, Dag, ResultState, Run, RunResult, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, dag_task, new_run

pytestmark = pytest.mark.django_db


@pytest.fixture
def reported(nightly: Workflow) -> Run:
    """A run that has succeeded, with a result."""
    Workflow.objects.update(result_task="load")
    run = new_run(nightly, RunState.SUCCESS, started_at=NOW, ended_at=NOW)
    known = {"attempt": 1, "task_id": "load", "state": ResultState.READY, "value": {"rows": 3}, "size": 10}
    RunResult.objects.create(run=run, found_at=NOW, **known)
    return run


def test_a_run_shows_its_result_and_answers_it_alone(as_user: AsUser, ada: User, reported: Run) -> None:
    client = as_user(ada)
    result = {
        "state": "ready",
        "task_id": "load",
        "value": {"rows": 3},
        "size": 10,
        "reason": "",
        "reference": "",
    }

    alone = client.get(f"{path_of(reported)}/result")

    assert client.get(path_of(reported)).json()["result"] == result
    assert alone.status_code == 200
    assert alone.json() == {"run_id": str(reported.pk), "run_state": "success", "attempt": 1} | result


def test_a_result_that_is_owed_is_pending(as_user: AsUser, ada: User, reported: Run) -> None:
    RunResult.objects.update(state=ResultState.PENDING, value=None, size=None, found_at=None)

    body = as_user(ada).get(f"{path_of(reported)}/result").json()

    assert (body["state"], body["value"]) == ("pending", None)
    assert body["reason"] == "It is still to be read from Airflow."


def test_a_result_is_for_those_who_see_the_run(as_user: AsUser, eve: User, reported: Run) -> None:
    Workflow.objects.update(visibility="private")

    refused(lambda: as_user(eve).get(f"{path_of(reported)}/result"), 404, "not_found")


def test_a_list_of_runs_has_no_results(as_user: AsUser, ada: User, reported: Run) -> None:
    assert "result" not in as_user(ada).get(f"{V1}/runs").json()["results"][0]


def test_a_workflow_names_a_task_of_its_dag(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client, path = as_user(ada), f"{V1}/workflows/{nightly.pk}"

    body = refused(lambda: client.patch(path, {"result_task": "export"}), 400, "invalid", errors=ANY_ERRORS)
    changed = client.patch(path, {"result_task": "load"})
    cleared = client.patch(path, {"result_task": ""})

    assert body["errors"] == {"result_task": ["The DAG etl has no task export. It has: extract, load, transform."]}
    assert (changed.status_code, changed.json()["result_task"]) == (200, "load")
    assert (cleared.status_code, cleared.json()["result_task"]) == (200, "")


ANY_ERRORS = {"result_task": ["The DAG etl has no task export. It has: extract, load, transform."]}


def test_a_new_workflow_names_a_task_of_its_dag(as_user: AsUser, ada: User, etl: Dag) -> None:
    asked = {"name": "Report", "dag_id": "etl"}
    client = as_user(ada)

    wrong = client.post(f"{V1}/workflows", {**asked, "result_task": "export"})
    right = client.post(f"{V1}/workflows", {**asked, "result_task": "load"})

    assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["result_task"])
    assert (right.status_code, right.json()["result_task"]) == (201, "load")


def test_a_workflow_with_a_result_task_gets_no_dag_without_it(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    Workflow.objects.update(result_task="load")
    Dag.objects.create(airflow=Airflow.named(DEFAULT), dag_id="other", tasks=[dag_task("export")])
    client, path = as_user(ada), f"{V1}/workflows/{nightly.pk}"

    alone = client.patch(path, {"dag_id": "other"})
    together = client.patch(path, {"dag_id": "other", "result_task": "export"})

    assert alone.json()["errors"] == {"result_task": ["The DAG other has no task load. It has: export."]}
    assert (together.status_code, together.json()["result_task"]) == (200, "export")


def test_a_task_that_the_dag_has_lost_does_not_block_other_changes(
    as_user: AsUser, ada: User, nightly: Workflow
) -> None:
    Workflow.objects.update(result_task="gone")

    changed = as_user(ada).patch(f"{V1}/workflows/{nightly.pk}", {"name": "Weekly"})

    assert (changed.status_code, changed.json()["result_task"]) == (200, "gone")
