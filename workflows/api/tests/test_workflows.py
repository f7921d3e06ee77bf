"""Workflows over the REST API."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from workflows import services
from workflows.api.tests.asking import V1, AsUser, everything, path_of, refused, runs_of
from workflows.conftest import bearer
from workflows.eventlog import events, publication
from workflows.models import Dag, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import new_run

pytestmark = pytest.mark.django_db


def test_a_user_creates_a_workflow(as_user: AsUser, ada: User, etl: Dag) -> None:
    wanted = {"name": "Mine", "dag_id": "etl", "default_parameters": {"rows": 3}, "visibility": "private"}

    answer = as_user(ada).post(f"{V1}/workflows", wanted)

    workflow = Workflow.objects.get()
    assert answer.status_code == 201
    times = {name: answer.json()[name] for name in ("created_at", "updated_at")}
    expected = {
        "id": workflow.pk,
        "name": "Mine",
        "description": "",
        "dag_id": "etl",
        "owner_id": ada.pk,
        "owner": "ada",
        "is_active": True,
        "default_parameters": {"rows": 3},
        "visibility": "private",
    }
    assert {name: answer.json()[name] for name in expected} == expected
    assert all(moment.endswith("Z") for moment in times.values())
    assert (workflow.owner, workflow.dag) == (ada, etl)


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"dag_id": "nope"}, {"dag_id": ["There is no DAG nope, or you cannot see it: see GET /api/v1/dags."]}),
        ({"dag_id": "gone"}, {"dag_id": ["There is no DAG gone, or you cannot see it: see GET /api/v1/dags."]}),
        ({"dag_id": None}, {"dag_id": ["This field may not be null."]}),
        ({"name": ""}, {"name": ["This field may not be blank."]}),
        ({"name": "n" * 201}, {"name": ["Ensure this field has no more than 200 characters."]}),
        ({"name": "Nightly"}, {"name": ["You already have a workflow with this name."]}),
        ({"is_active": "perhaps"}, {"is_active": ["Must be a valid boolean."]}),
        ({"visibility": "secret"}, {"visibility": ["Expected one of internal, private."]}),
        ({"default_parameters": [1]}, {"default_parameters": ['Expected a dictionary of items but got type "list".']}),
        ({"default_parameters": {"rows": 0}}, {"default_parameters.rows": ["0 is less than the minimum of 1"]}),
        (
            {"colour": "red"},
            {
                "colour": [
                    "Unknown field; expected one of adopts_airflow_runs, airflow, dag_id, default_parameters, "
                    "description, is_active, name, result_task, visibility."
                ]
            },
        ),
    ],
)
def test_a_wrong_field_of_a_workflow_is_named(
    as_user: AsUser, ada: User, nightly: Workflow, change: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    Dag.objects.create(dag_id="gone", is_present=False)
    client = as_user(ada)

    refused(lambda: client.post(f"{V1}/workflows", {"name": "New", "dag_id": "etl"} | change), 400, "invalid",
            errors=errors)  # fmt: skip


def test_missing_fields_of_a_workflow_are_named(as_user: AsUser, ada: User) -> None:
    client = as_user(ada)
    errors = {"name": ["This field is required."], "dag_id": ["This field is required."]}

    refused(lambda: client.post(f"{V1}/workflows", {}), 400, "invalid", errors=errors)


@pytest.mark.parametrize("body", ["{", "", "[1]", '"text"', "nonsense", '{"a": NaN}'])
def test_a_body_that_is_not_a_json_object_is_refused(as_user: AsUser, ada: User, body: str) -> None:
    client = as_user(ada)
    before = everything()

    answer = client.post(f"{V1}/workflows", body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) in {(400, "malformed"), (400, "invalid")}
    assert everything() == before


def test_a_body_of_another_type_is_refused(as_user: AsUser, ada: User) -> None:
    client = as_user(ada)

    refused(lambda: client.post(f"{V1}/workflows", "a=1", content_type="text/plain"), 415, "unsupported_media_type")


def test_two_owners_may_use_one_name_and_a_deleted_name_is_free(
    as_user: AsUser, ada: User, eve: User, nightly: Workflow
) -> None:
    wanted = {"name": "Nightly", "dag_id": "etl"}

    assert as_user(eve).post(f"{V1}/workflows", wanted).status_code == 201
    assert as_user(ada).delete(f"{V1}/workflows/{nightly.pk}").status_code == 204
    assert as_user(ada).post(f"{V1}/workflows", wanted).status_code == 201


def test_a_change_by_the_owner_changes_only_the_fields_sent(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    answer = as_user(ada).patch(f"{V1}/workflows/{nightly.pk}", {"description": "New"})

    assert (answer.status_code, answer.json()["description"]) == (200, "New")
    nightly.refresh_from_db()
    assert (nightly.name, nightly.description, nightly.default_parameters) == ("Nightly", "New", {"rows": 10})


def test_an_admin_changes_anybodys_workflow(as_user: AsUser, root: User, secret: Workflow) -> None:
    answer = as_user(root).patch(f"{V1}/workflows/{secret.pk}", {"is_active": False})

    assert (answer.status_code, answer.json()["is_active"]) == (200, False)


def test_new_defaults_must_fit_the_dag(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client = as_user(ada)
    errors = {"default_parameters.mode": ["'x' is not one of ['fast', 'slow']"]}

    refused(lambda: client.patch(f"{V1}/workflows/{nightly.pk}", {"default_parameters": {"mode": "x"}}), 400,
            "invalid", errors=errors)  # fmt: skip


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_users_cannot_change_the_workflow_of_another_user(
    as_user: AsUser, eve: User, nightly: Workflow, method: str
) -> None:
    client = as_user(eve)

    refused(lambda: getattr(client, method)(f"{V1}/workflows/{nightly.pk}", {}), 403, "permission_denied")


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_private_workflow_of_another_user_is_not_found(
    as_user: AsUser, eve: User, secret: Workflow, method: str
) -> None:
    client = as_user(eve)

    refused(lambda: getattr(client, method)(f"{V1}/workflows/{secret.pk}", {}), 404, "not_found")


def test_a_workflow_with_open_runs_is_not_deleted(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    new_run(nightly, RunState.RUNNING)
    client = as_user(ada)

    refused(lambda: client.delete(f"{V1}/workflows/{nightly.pk}"), 409, "active_runs", active_runs=1)


def test_only_the_owner_and_admins_see_the_history_of_a_deleted_workflow(
    as_user: AsUser, ada: User, eve: User, root: User, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED, user=eve)
    with transaction.atomic():
        data = events.WorkflowStarted(airflow=DEFAULT, state=RunState.RUNNING, attempt=1, started_at=timezone.now())
        events.record(data, now=timezone.now(), run=run)
    publication.publish()
    history = (path_of(run), f"{path_of(run)}/tasks", f"{path_of(run)}/explain", runs_of(nightly))

    assert as_user(ada).delete(f"{V1}/workflows/{nightly.pk}").status_code == 204

    for user, remembers in ((ada, True), (root, True), (eve, False)):
        client = as_user(user)
        assert client.get(f"{V1}/workflows/{nightly.pk}").status_code == 404
        assert [client.get(path).status_code for path in history] == [200 if remembers else 404] * 4
        runs = [found["id"] for found in client.get(f"{V1}/runs").json()["results"]]
        assert runs == ([str(run.pk)] if remembers else [])
        found = [event["run_id"] for event in client.get(f"{V1}/events?type=workflow.started").json()["results"]]
        assert found == runs
        assert client.get(f"{V1}/events?workflow={nightly.pk}").status_code == (200 if remembers else 404)
        refused(partial(client.post, runs_of(nightly), {}), 404, "not_found")
        refused(partial(client.post, f"{path_of(run)}/control", {"action": "retry"}), 404, "not_found")


def test_a_run_of_a_deleted_workflow_cannot_be_retried(nightly: Workflow, ada: User) -> None:
    run = new_run(nightly, RunState.FAILED)
    services.delete_workflow(workflow=nightly, actor=ada)

    with pytest.raises(services.WorkflowInactiveError, match="The workflow was deleted"):
        services.retry_run(run=Run.objects.get(), actor=ada)

    run.refresh_from_db()
    assert (run.state, run.attempt, run.commands.count()) == (RunState.FAILED, 1, 0)


def test_a_change_does_not_undelete_a_workflow(nightly: Workflow, ada: User) -> None:
    stale = Workflow.objects.select_related("dag").get()
    services.delete_workflow(workflow=nightly, actor=ada)

    services.update_workflow(workflow=stale, actor=ada, description="late")

    assert Workflow.objects.get().deleted_at is not None


@pytest.mark.parametrize("workflow_id", ["0", "999", "abc", "-1", "9" * 18, "9" * 40])
def test_an_unknown_workflow_is_not_found(as_user: AsUser, ada: User, workflow_id: str) -> None:
    client = as_user(ada)

    for path in (f"{V1}/workflows/{workflow_id}", f"{V1}/workflows/{workflow_id}/runs"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_lists_of_workflows_are_filtered_and_ordered(
    as_user: AsUser, ada: User, eve: User, nightly: Workflow, secret: Workflow
) -> None:
    def names(user: User, query: str = "") -> list[str]:
        return [workflow["name"] for workflow in as_user(user).get(f"{V1}/workflows?{query}").json()["results"]]

    assert names(ada) == ["Nightly", "Secret"]
    assert names(eve) == ["Nightly"]
    assert names(ada, "ordering=-name") == ["Secret", "Nightly"]
    assert names(ada, "visibility=private") == ["Secret"]
    assert names(ada, "search=NIGHT") == ["Nightly"]
    assert names(ada, "dag_id=other") == []
    assert names(ada, f"owner={ada.pk}") == ["Nightly", "Secret"]
    assert names(ada, "page_size=1&page=2") == ["Secret"]


def test_a_request_without_a_valid_token_is_refused(nightly: Workflow) -> None:
    run = new_run(nightly)
    paths = [f"{V1}/dags", f"{V1}/workflows", f"{V1}/runs", path_of(run), f"{path_of(run)}/tasks"]

    for path in paths:
        body = refused(lambda path=path: APIClient().get(path), 401, "not_authenticated")  # type: ignore[misc]
        assert body["detail"] == "Authentication credentials were not provided."
        refused(lambda path=path: bearer("wrong").get(path), 401, "invalid_token")  # type: ignore[misc]
    refused(lambda: bearer("wrong").post(runs_of(nightly), {}), 401, "invalid_token")


def test_a_viewer_reads_everything_internal_and_changes_nothing(as_user: AsUser, vera: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    client = as_user(vera)

    for path in (f"{V1}/workflows", f"{V1}/workflows/{nightly.pk}", runs_of(nightly), path_of(run), f"{V1}/dags/etl"):
        assert client.get(path).status_code == 200
    refused(lambda: client.post(f"{V1}/workflows", {"name": "x", "dag_id": "etl"}), 403, "permission_denied")
    refused(lambda: client.post(runs_of(nightly), {}), 403, "permission_denied")
    refused(lambda: client.post(f"{path_of(run)}/control", {"action": "stop"}), 403, "permission_denied")
    refused(lambda: client.post(f"{V1}/dags/sync"), 403, "permission_denied")


def test_an_admin_chooses_the_workflow_that_adopts_airflows_runs(
    as_user: AsUser, root: User, nightly: Workflow, secret: Workflow
) -> None:
    client = as_user(root)

    answer = client.patch(f"{V1}/workflows/{secret.pk}", {"adopts_airflow_runs": True})

    assert (answer.status_code, answer.json()["adopts_airflow_runs"]) == (200, True)
    message = f"The workflow Secret ({secret.pk}) adopts the runs of this DAG. Set it to false there first."
    errors = {"adopts_airflow_runs": [message]}
    refused(lambda: client.patch(f"{V1}/workflows/{nightly.pk}", {"adopts_airflow_runs": True}), 400, "invalid",
            errors=errors)  # fmt: skip
    wanted = {"name": "New", "dag_id": "etl", "adopts_airflow_runs": True}
    refused(lambda: client.post(f"{V1}/workflows", wanted), 400, "invalid", errors=errors)
    assert client.patch(f"{V1}/workflows/{secret.pk}", {"adopts_airflow_runs": True}).status_code == 200


CHOICE_REFUSED = {
    "adopts_airflow_runs": ["Only an admin can choose the workflow that adopts the runs started in Airflow."]
}


def test_only_an_admin_chooses_and_a_manager_may_end_it(
    as_user: AsUser, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    client = as_user(ada)
    wanted = {"name": "New", "dag_id": "etl", "adopts_airflow_runs": True}

    refused(lambda: client.patch(f"{V1}/workflows/{nightly.pk}", {"adopts_airflow_runs": True}), 403,
            "permission_denied", errors=CHOICE_REFUSED)  # fmt: skip
    refused(lambda: client.post(f"{V1}/workflows", wanted), 403, "permission_denied", errors=CHOICE_REFUSED)
    Workflow.objects.filter(pk=secret.pk).update(adopts_airflow_runs=True)
    unchanged = {"description": "Kept", "adopts_airflow_runs": True}
    assert client.patch(f"{V1}/workflows/{secret.pk}", unchanged).json()["adopts_airflow_runs"] is True
    ended = client.patch(f"{V1}/workflows/{secret.pk}", {"adopts_airflow_runs": False})
    assert (ended.status_code, ended.json()["adopts_airflow_runs"]) == (200, False)


def test_a_workflow_takes_its_choice_to_no_other_dag(as_user: AsUser, ada: User, root: User, nightly: Workflow) -> None:
    Dag.objects.create(dag_id="payroll")
    Workflow.objects.update(adopts_airflow_runs=True, default_parameters={})
    path = f"{V1}/workflows/{nightly.pk}"
    client = as_user(ada)

    both = {"dag_id": "payroll", "adopts_airflow_runs": True}
    refused(lambda: client.patch(path, both), 403, "permission_denied", errors=CHOICE_REFUSED)
    moved = client.patch(path, {"dag_id": "payroll"}).json()

    assert (moved["dag_id"], moved["adopts_airflow_runs"]) == ("payroll", False)
    assert as_user(root).patch(path, {"dag_id": "etl", "adopts_airflow_runs": True}).json()["dag_id"] == "etl"


def test_a_key_with_bounds_does_not_choose(as_user: AsUser, root: User, nightly: Workflow) -> None:
    asked = {"name": "k", "scopes": ["workflow:read", "workflow:write"], "workflow_ids": [nightly.pk]}
    client = bearer(as_user(root).post(f"{V1}/api-keys", asked).json()["key"])

    refused(lambda: client.patch(f"{V1}/workflows/{nightly.pk}", {"adopts_airflow_runs": True}), 403,
            "permission_denied", errors=CHOICE_REFUSED)  # fmt: skip


def test_the_database_allows_one_chosen_workflow_of_a_dag(nightly: Workflow, secret: Workflow) -> None:
    Workflow.objects.filter(pk=nightly.pk).update(adopts_airflow_runs=True)

    with pytest.raises(IntegrityError), transaction.atomic():
        Workflow.objects.filter(pk=secret.pk).update(adopts_airflow_runs=True)
