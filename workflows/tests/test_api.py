"""The REST API of DAGs, workflows and runs: what it answers, and that a refusal changes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient

from accounts.models import User
from workflows import events, outbox, services
from workflows.airflow.tests.scripted import Reply
from workflows.models import AirflowCommand, AirflowState, Dag, Event, Run, TaskInstance, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.conftest import bearer, token_of
from workflows.tests.stage import NOW, SCHEMA, StagedAirflow, at, new_run

pytestmark = pytest.mark.django_db

V1 = "/api/v1"
AsUser = Callable[[User], APIClient]


def everything() -> list[dict[str, Any]]:
    """All that the core stores; the same before and after a refusal."""
    models: tuple[Any, ...] = (Dag, Workflow, Run, TaskInstance, Event, AirflowCommand, AirflowState)
    return [row for model in models for row in model.objects.order_by("pk").values()]


def refused(call: Callable[[], Any], status: int, code: str, **more: Any) -> dict[str, Any]:
    """Assert that the call is refused in the one shape of an error and that nothing was changed; the body."""
    AirflowState.current()
    before = everything()
    answer = call()
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert everything() == before
    assert isinstance(body.pop("request_id"), str)
    detail = body.pop("detail")
    assert isinstance(detail, str)
    assert detail
    assert body == {"code": code} | more
    return {"detail": detail, **body}


def runs_of(workflow: Workflow) -> str:
    return f"{V1}/workflows/{workflow.pk}/runs"


def path_of(run: Run) -> str:
    return f"{runs_of(run.workflow)}/{run.pk}"


# --- Workflows ------------------------------------------------------------------------------------------------


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
        ({"dag_id": "nope"}, {"dag_id": ["There is no DAG nope in Airflow; GET /api/v1/dags lists them."]}),
        ({"dag_id": "gone"}, {"dag_id": ["There is no DAG gone in Airflow; GET /api/v1/dags lists them."]}),
        ({"dag_id": None}, {"dag_id": ["This field may not be null."]}),
        ({"name": ""}, {"name": ["This field may not be blank."]}),
        ({"name": "n" * 201}, {"name": ["Ensure this field has no more than 200 characters."]}),
        ({"name": "Nightly"}, {"name": ["You already have a workflow of this name."]}),
        ({"is_active": "perhaps"}, {"is_active": ["Must be a valid boolean."]}),
        ({"visibility": "secret"}, {"visibility": ['"secret" is not a valid choice.']}),
        ({"default_parameters": [1]}, {"default_parameters": ['Expected a dictionary of items but got type "list".']}),
        ({"default_parameters": {"rows": 0}}, {"default_parameters.rows": ["0 is less than the minimum of 1"]}),
        (
            {"colour": "red"},
            {
                "colour": [
                    "Unknown field; expected one of dag_id, default_parameters, description, is_active, name, "
                    "visibility."
                ]
            },
        ),
    ],
)
def test_a_workflow_with_a_wrong_field_is_refused_by_its_name(
    as_user: AsUser, ada: User, nightly: Workflow, change: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    Dag.objects.create(dag_id="gone", is_present=False)
    client = as_user(ada)

    refused(lambda: client.post(f"{V1}/workflows", {"name": "New", "dag_id": "etl"} | change), 400, "invalid",
            errors=errors)  # fmt: skip


def test_a_workflow_without_its_fields_is_refused_by_their_names(as_user: AsUser, ada: User) -> None:
    client = as_user(ada)
    errors = {"name": ["This field is required."], "dag_id": ["This field is required."]}

    refused(lambda: client.post(f"{V1}/workflows", {}), 400, "invalid", errors=errors)


@pytest.mark.parametrize("body", ["{", "", "[1]", '"text"', "nonsense", '{"a": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(as_user: AsUser, ada: User, body: str) -> None:
    client = as_user(ada)
    before = everything()

    answer = client.post(f"{V1}/workflows", body, content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) in {(400, "malformed"), (400, "invalid")}
    assert everything() == before


def test_a_body_of_another_kind_is_refused(as_user: AsUser, ada: User) -> None:
    client = as_user(ada)

    refused(lambda: client.post(f"{V1}/workflows", "a=1", content_type="text/plain"), 415, "unsupported_media_type")


def test_two_owners_may_use_one_name_and_a_deleted_name_is_free(
    as_user: AsUser, ada: User, eve: User, nightly: Workflow
) -> None:
    wanted = {"name": "Nightly", "dag_id": "etl"}

    assert as_user(eve).post(f"{V1}/workflows", wanted).status_code == 201
    assert as_user(ada).delete(f"{V1}/workflows/{nightly.pk}").status_code == 204
    assert as_user(ada).post(f"{V1}/workflows", wanted).status_code == 201


def test_the_owner_changes_what_is_sent_and_nothing_else(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    answer = as_user(ada).patch(f"{V1}/workflows/{nightly.pk}", {"description": "New"})

    assert (answer.status_code, answer.json()["description"]) == (200, "New")
    nightly.refresh_from_db()
    assert (nightly.name, nightly.description, nightly.default_parameters) == ("Nightly", "New", {"rows": 10})


def test_an_admin_changes_anybodys_workflow(as_user: AsUser, root: User, secret: Workflow) -> None:
    answer = as_user(root).patch(f"{V1}/workflows/{secret.pk}", {"is_active": False})

    assert (answer.status_code, answer.json()["is_active"]) == (200, False)


def test_new_defaults_have_to_fit_the_dag(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    client = as_user(ada)
    errors = {"default_parameters.mode": ["'x' is not one of ['fast', 'slow']"]}

    refused(lambda: client.patch(f"{V1}/workflows/{nightly.pk}", {"default_parameters": {"mode": "x"}}), 400,
            "invalid", errors=errors)  # fmt: skip


@pytest.mark.parametrize("method", ["patch", "delete"])
def test_somebody_elses_workflow_is_not_theirs_to_change(
    as_user: AsUser, eve: User, nightly: Workflow, method: str
) -> None:
    client = as_user(eve)

    refused(lambda: getattr(client, method)(f"{V1}/workflows/{nightly.pk}", {}), 403, "permission_denied")


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_strangers_private_workflow_does_not_exist(as_user: AsUser, eve: User, secret: Workflow, method: str) -> None:
    client = as_user(eve)

    refused(lambda: getattr(client, method)(f"{V1}/workflows/{secret.pk}", {}), 404, "not_found")


def test_a_workflow_with_open_runs_is_not_deleted(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    new_run(nightly, RunState.RUNNING)
    client = as_user(ada)

    refused(lambda: client.delete(f"{V1}/workflows/{nightly.pk}"), 409, "active_runs", active_runs=1)


def test_a_deleted_workflow_is_gone_and_its_history_stays_with_its_owner_and_admins(
    as_user: AsUser, ada: User, eve: User, root: User, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED, user=eve)
    with transaction.atomic():
        data = events.WorkflowStarted(state="running", attempt=1, started_at="")
        events.record(data, now=timezone.now(), run=run)
    outbox.publish()
    history = (path_of(run), f"{path_of(run)}/tasks", f"{path_of(run)}/explain", runs_of(nightly))

    assert as_user(ada).delete(f"{V1}/workflows/{nightly.pk}").status_code == 204

    for user, remembers in ((ada, True), (root, True), (eve, False)):
        client = as_user(user)
        assert client.get(f"{V1}/workflows/{nightly.pk}").status_code == 404
        assert [client.get(path).status_code for path in history] == [200 if remembers else 404] * 4
        runs = [found["id"] for found in client.get(f"{V1}/runs").json()["results"]]
        assert runs == ([str(run.pk)] if remembers else [])
        told = [event["run_id"] for event in client.get(f"{V1}/events?type=workflow.started").json()["results"]]
        assert told == runs
        assert client.get(f"{V1}/events?workflow={nightly.pk}").status_code == (200 if remembers else 404)
        refused(partial(client.post, runs_of(nightly), {}), 404, "not_found")
        refused(partial(client.post, f"{path_of(run)}/control", {"action": "retry"}), 404, "not_found")


def test_a_run_of_a_deleted_workflow_is_not_retried_by_any_way(nightly: Workflow, ada: User) -> None:
    run = new_run(nightly, RunState.FAILED)
    services.delete_workflow(workflow=nightly, actor=ada)

    with pytest.raises(services.WorkflowInactiveError, match="The workflow was deleted"):
        services.retry_run(run=Run.objects.get(), actor=ada)

    run.refresh_from_db()
    assert (run.state, run.attempt, run.commands.count()) == (RunState.FAILED, 1, 0)


def test_a_change_does_not_bring_a_deleted_workflow_back(nightly: Workflow, ada: User) -> None:
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


# --- Who may ----------------------------------------------------------------------------------------------------


def test_without_or_with_a_wrong_token_nothing_is_answered(nightly: Workflow) -> None:
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


# --- Triggering -------------------------------------------------------------------------------------------------


def test_a_trigger_answers_with_the_run(as_user: AsUser, airflow: StagedAirflow, eve: User, nightly: Workflow) -> None:
    wanted = {"task_id": 7, "dataset_id": "d-1", "parameters": {"mode": "slow"}, "note": "please"}

    answer = as_user(eve).post(runs_of(nightly), wanted)

    run = Run.objects.get()
    assert answer.status_code == 201
    expected = {
        "id": str(run.pk),
        "workflow_id": nightly.pk,
        "workflow_name": "Nightly",
        "dag_id": "etl",
        "dag_run_id": f"svops__{run.pk}",
        "state": "queued",
        "state_reason": "",
        "paused": False,
        "trigger_type": "api",
        "user_id": eve.pk,
        "username": "eve",
        "task_id": 7,
        "dataset_id": "d-1",
        "parameters": {"rows": 10, "mode": "slow"},
        "note": "please",
        "attempt": 1,
        "started_at": None,
        "ended_at": None,
        "duration_s": None,
    }
    assert {name: answer.json()[name] for name in expected} == expected
    assert [theirs["conf"] for theirs in airflow.runs.values()] == [
        {"rows": 10, "mode": "slow", "task_id": 7, "dataset_id": "d-1"}
    ]


@pytest.mark.usefixtures("no_airflow")
def test_a_trigger_is_accepted_while_airflow_is_down(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    answer = as_user(ada).post(runs_of(nightly), {})

    assert (answer.status_code, answer.json()["state"], answer.json()["stale"]) == (201, "pending", True)


LONG = "Expected 1 to 250 characters."
REFERENCE = "Expected an integer or a string."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"parameters": {"rows": "ten"}}, {"parameters.rows": ["'ten' is not of type 'integer'"]}),
        ({"parameters": {"rows": None}}, {"parameters.rows": ["null is not of type 'integer'"]}),
        ({"parameters": 5}, {"parameters": ['Expected a dictionary of items but got type "int".']}),
        ({"parameter": {}}, {"parameter": ["Unknown field; expected one of dataset_id, note, parameters, run_at, "
                                           "task_id."]}),
        ({"task_id": 1.5}, {"task_id": [REFERENCE]}),
        ({"task_id": True}, {"task_id": [REFERENCE]}),
        ({"task_id": ""}, {"task_id": [LONG]}),
        ({"dataset_id": "d" * 251}, {"dataset_id": [LONG]}),
        ({"dataset_id": 2**63}, {"dataset_id": ["Expected an integer of at most 64 bits."]}),
        ({"note": "n" * 1001}, {"note": ["Ensure this field has no more than 1000 characters."]}),
    ],
)  # fmt: skip
def test_a_trigger_with_a_wrong_field_is_refused_and_airflow_is_not_asked(
    as_user: AsUser,
    airflow: StagedAirflow,
    ada: User,
    nightly: Workflow,
    body: dict[str, Any],
    errors: dict[str, list[str]],
) -> None:
    client = as_user(ada)

    refused(lambda: client.post(runs_of(nightly), body), 400, "invalid", errors=errors)

    assert airflow.requests == []
    assert Run.objects.count() == 0


def test_a_missing_parameter_is_refused_by_its_name(
    as_user: AsUser, airflow: StagedAirflow, ada: User, secret: Workflow
) -> None:
    client = as_user(ada)
    errors = {"parameters.rows": ["This parameter is required."]}

    refused(lambda: client.post(runs_of(secret), {}), 400, "invalid", errors=errors)

    assert airflow.requests == []


def test_a_strangers_private_workflow_is_not_triggered(as_user: AsUser, eve: User, secret: Workflow) -> None:
    client = as_user(eve)

    refused(lambda: client.post(runs_of(secret), {"parameters": {"rows": 1}}), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"is_active": False}, "The workflow is not active: set is_active to true first."),
        ({"is_present": False}, "Airflow does not have the DAG etl any more."),
    ],
)
def test_a_workflow_that_can_not_run_is_not_triggered(
    as_user: AsUser, ada: User, nightly: Workflow, change: dict[str, bool], detail: str
) -> None:
    kind: Any = Workflow if "is_active" in change else Dag
    kind.objects.update(**change)
    client = as_user(ada)

    body = refused(lambda: client.post(runs_of(nightly), {}), 409, "workflow_inactive")

    assert body["detail"] == detail


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"mode": "all"}])
@pytest.mark.parametrize("change", [{"is_active": False}, {"is_present": False}])
def test_a_run_of_a_workflow_that_can_not_run_is_not_retried(
    as_user: AsUser,
    airflow: StagedAirflow,
    ada: User,
    nightly: Workflow,
    change: dict[str, bool],
    options: dict[str, Any],
) -> None:
    run = new_run(nightly, RunState.FAILED)
    kind: Any = Workflow if "is_active" in change else Dag
    kind.objects.update(**change)
    client = as_user(ada)

    refused(lambda: client.post(f"{path_of(run)}/control", {"action": "retry", **options}), 409, "workflow_inactive")

    assert airflow.calls == []


def test_parameters_are_validated_without_a_run(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)

    good = client.post(f"{runs_of(nightly)}/validate", {"parameters": {"mode": "slow"}})

    assert (good.status_code, good.json()) == (200, {"parameters": {"rows": 10, "mode": "slow"}})
    errors = {"parameters.rows": ["1001 is greater than the maximum of 1000"]}
    refused(lambda: client.post(f"{runs_of(nightly)}/validate", {"parameters": {"rows": 1001}}), 400, "invalid",
            errors=errors)  # fmt: skip
    assert (Run.objects.count(), airflow.requests) == (0, [])


@pytest.mark.parametrize("text", ["a\u0000b", "\ud800"])
@pytest.mark.usefixtures("no_airflow")
def test_text_that_no_database_takes_is_refused(as_user: AsUser, ada: User, nightly: Workflow, text: str) -> None:
    client = as_user(ada)
    bodies = [{"parameters": {"more": [text]}}, {"task_id": text}, {"note": text}]

    for body in bodies:
        raw = json.dumps(body)
        answer = client.post(runs_of(nightly), raw, content_type="application/json")
        assert answer.status_code == 400, answer.content
    assert Run.objects.count() == 0


@pytest.mark.parametrize(
    "raw",
    [
        '{"parameters": {"x": 1e999}}',
        *('{"parameters": {"x": ' + "[" * depth + "]" * depth + "}}" for depth in (99, 5000, 100_000)),
    ],
    ids=["infinite", "deep", "deeper", "deepest"],
)
@pytest.mark.usefixtures("no_airflow")
def test_json_that_is_none_in_the_end_is_refused(as_user: AsUser, ada: User, nightly: Workflow, raw: str) -> None:
    answer = as_user(ada).post(runs_of(nightly), raw, content_type="application/json")

    assert answer.status_code == 400
    assert Run.objects.count() == 0


@pytest.mark.usefixtures("no_airflow")
def test_json_of_a_hundred_levels_is_taken(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    raw = '{"parameters": {"rows": 1, "x": ' + "[" * 98 + "]" * 98 + "}}"

    assert as_user(ada).post(runs_of(nightly), raw, content_type="application/json").status_code == 201


# --- Reading runs -----------------------------------------------------------------------------------------------


def test_a_run_tells_when_it_was_last_seen_and_whether_that_is_stale(
    as_user: AsUser, ada: User, nightly: Workflow, settings: Settings
) -> None:
    settings.STALE_AFTER = 20
    now = timezone.now()
    run = new_run(nightly, RunState.RUNNING, observed_at=NOW)
    state = AirflowState.current()
    client = as_user(ada)

    def seen(looked_at: Any, *, reachable: bool = True) -> tuple[str, bool]:
        AirflowState.objects.filter(pk=state.pk).update(looked_at=looked_at, reachable=reachable)
        body = client.get(path_of(run)).json()
        return body["observed_at"], body["stale"]

    confirmed = now.isoformat().replace("+00:00", "Z")
    assert seen(now) == (confirmed, False)
    assert seen(now, reachable=False) == (confirmed, True)
    assert seen(now - timedelta(seconds=21))[1]
    Run.objects.update(state=RunState.SUCCESS)
    assert seen(now)[0] == "2026-03-01T12:00:00Z"


def test_an_unknown_run_and_one_of_another_workflow_are_not_found(
    as_user: AsUser, ada: User, nightly: Workflow, secret: Workflow
) -> None:
    run = new_run(nightly)
    client = as_user(ada)

    for path in (
        f"{runs_of(nightly)}/{uuid.uuid4()}",
        f"{runs_of(secret)}/{run.pk}",
        f"{runs_of(nightly)}/not-a-uuid",
    ):
        refused(lambda path=path: client.get(path), 404, "not_found")  # type: ignore[misc]
        refused(lambda path=path: client.post(f"{path}/control", {"action": "stop"}), 404, "not_found")  # type: ignore[misc]


def test_a_strangers_private_runs_are_in_no_list(
    as_user: AsUser, eve: User, nightly: Workflow, secret: Workflow
) -> None:
    run, hidden = new_run(nightly), new_run(secret)
    client = as_user(eve)

    assert [found["id"] for found in client.get(f"{V1}/runs").json()["results"]] == [str(run.pk)]
    assert client.get(path_of(hidden)).status_code == 404
    assert client.get(f"{path_of(hidden)}/events").status_code == 404
    assert client.get(f"{path_of(hidden)}/tasks").status_code == 404


def test_runs_are_listed_newest_first_and_paged_by_keyset(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    runs = [new_run(nightly) for _ in range(5)]
    for n, run in enumerate(runs):
        Run.objects.filter(pk=run.pk).update(created_at=at(n))
    client = as_user(ada)

    first = client.get(f"{V1}/runs?page_size=2").json()
    new_run(nightly)
    second = client.get(first["next"]).json()

    ids = [found["id"] for found in first["results"] + second["results"]]
    assert ids == [str(run.pk) for run in reversed(runs[1:])]
    assert set(first) == {"next", "previous", "results"}


def test_runs_are_filtered(as_user: AsUser, ada: User, eve: User, nightly: Workflow, secret: Workflow) -> None:
    first = new_run(nightly, RunState.RUNNING, task_id=7, note="urgent")
    second = new_run(nightly, RunState.FAILED, task_id="7", user=eve)
    third = new_run(secret, RunState.SUCCESS, dataset_id="d-1")
    Run.objects.filter(pk=third.pk).update(created_at=at(60))
    client = as_user(ada)

    def found(query: str) -> set[str]:
        return {run["id"] for run in client.get(f"{V1}/runs?{query}").json()["results"]}

    def ids(*runs: Run) -> set[str]:
        return {str(run.pk) for run in runs}

    assert found("state=running") == ids(first)
    assert found("state=running&state=failed") == ids(first, second)
    assert found(f"workflow={secret.pk}") == ids(third)
    assert found(f"user={eve.pk}") == ids(second)
    assert found("task_id=7") == ids(first, second)
    assert found("dataset_id=d-1") == ids(third)
    assert found("dag_id=etl&state=success") == ids(third)
    assert found("created_after=2026-03-01T12:00:30Z") == ids(third)
    assert found("created_before=2026-03-01T12:00:30Z") == ids(first, second)
    assert found("search=URGENT") == ids(first)


@pytest.mark.parametrize(
    "query",
    [
        "state=dancing",
        "workflow=abc",
        "workflow=" + "9" * 30,
        "user=" + "9" * 30,
        "created_after=yesterday",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(as_user: AsUser, ada: User, nightly: Workflow, query: str) -> None:
    answer = as_user(ada).get(f"{V1}/runs?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == [query.split("=")[0]]


@pytest.mark.parametrize(
    "query",
    [
        "task_id=" + "9" * 5000,
        "task_id=" + "9" * 30,
        "task_id=--7",
        "search=%25",
    ],
)
def test_a_query_that_matches_nothing_is_no_error(as_user: AsUser, ada: User, nightly: Workflow, query: str) -> None:
    for _ in range(3):
        new_run(nightly)

    answer = as_user(ada).get(f"{V1}/runs?page_size=1&{query}")

    assert (answer.status_code, answer.json()["results"]) == (200, [])


# The last two are well-formed cursors: "p=abc" and "p=1'r=1".
@pytest.mark.parametrize("cursor", ["nonsense", "cD1hYmM=", "cD0xJ3I9MQ=="])
def test_a_cursor_that_makes_no_sense_is_refused(as_user: AsUser, ada: User, cursor: str) -> None:
    client = as_user(ada)

    errors = {"cursor": ["Expected the cursor of a next or previous link."]}
    refused(lambda: client.get(f"{V1}/runs?cursor={cursor}"), 400, "invalid", errors=errors)


def test_the_tasks_of_a_run_are_listed(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    run.tasks.create(task_id="extract", state="success", try_number=2, started_at=at(1), ended_at=at(4))
    run.tasks.create(task_id="load", map_index=3)

    tasks = as_user(ada).get(f"{path_of(run)}/tasks").json()

    shown = [
        (task["task_id"], task["map_index"], task["state"], task["try_number"], task["duration_s"]) for task in tasks
    ]
    assert shown == [("extract", -1, "success", 2, 3.0), ("load", 3, "", 0, None)]
    assert {task["stale"] for task in tasks} == {True}


def test_the_events_of_a_run_are_listed_in_order_once_they_are_published(
    as_user: AsUser, ada: User, nightly: Workflow
) -> None:
    run = new_run(nightly)
    for seq, position in ((1, 11), (2, 12), (3, None)):
        Event.objects.create(
            run=run,
            workflow=nightly,
            user=ada,
            seq=seq,
            position=position,
            type="task.started",
            task_id="t",
            timestamp=NOW,
        )

    body = as_user(ada).get(f"{path_of(run)}/events").json()

    assert [(event["id"], event["seq"]) for event in body["results"]] == [(11, 1), (12, 2)]
    assert body["results"][0] == {
        "id": 11, "seq": 1, "type": "task.started", "workflow_id": nightly.pk, "run_id": str(run.pk),
        "task_id": "t", "user_id": ada.pk, "timestamp": "2026-03-01T12:00:00Z", "data": {},
    }  # fmt: skip


# --- Control ----------------------------------------------------------------------------------------------------


def test_a_run_is_stopped(as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    airflow.put(run, "running", start=1)

    answer = as_user(ada).post(f"{path_of(run)}/control", {"action": "stop", "note": "wrong dataset"})

    assert (answer.status_code, answer.json()["state"]) == (200, "stopping")
    assert answer.json()["state_reason"] == "stopped by ada: wrong dataset"
    assert airflow.marked == [(run.dag_run_id, "failed")]


def test_a_failed_run_is_retried_and_its_former_attempt_is_kept(
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
        ("success", "stop", "A run that is success can not be stopped."),
        ("stopped", "stop", "A run that is stopped can not be stopped."),
        ("stopping", "stop", "A run that is stopping can not be stopped."),
        ("running", "retry", "A run that is running can not be retried."),
        ("success", "retry", "A run that is success can not be retried with mode failed: nothing has failed."),
        ("success", "pause", "A run that is success can not be paused."),
        ("running", "resume", "A run that is running can not be resumed: it is not paused."),
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


ONE_OF = "Unknown field; expected one of action, dry_run, from_task, mode, note, scope."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"action": ["This field is required."]}),
        ({"action": "dance"}, {"action": ['"dance" is not a valid choice.']}),
        ({"action": "stop", "mode": "all"}, {"mode": ["Goes with the action retry only."]}),
        ({"action": "retry", "mode": "some"}, {"mode": ['"some" is not a valid choice.']}),
        ({"action": "retry", "mode": "from_task"}, {"from_task": ["Goes with mode from_task: the id of a task."]}),
        ({"action": "retry", "from_task": "load"}, {"from_task": ["Goes with mode from_task: the id of a task."]}),
        ({"action": "retry", "mode": "from_task", "from_task": "nope"},
         {"from_task": ["The run has no task 'nope'; it has: extract."]}),
        ({"action": "retry", "force": True}, {"force": [ONE_OF]}),
    ],
)  # fmt: skip
def test_a_control_with_a_wrong_field_is_refused_by_its_name(
    as_user: AsUser, ada: User, nightly: Workflow, body: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    run = new_run(nightly, RunState.FAILED)
    run.tasks.create(task_id="extract", state="failed")
    client = as_user(ada)

    refused(lambda: client.post(f"{path_of(run)}/control", body), 400, "invalid", errors=errors)


@pytest.mark.usefixtures("no_airflow")
def test_a_dry_run_without_airflow_says_so(as_user: AsUser, ada: User, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.FAILED)

    answer = as_user(ada).post(f"{path_of(run)}/control", {"action": "retry", "dry_run": True})

    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")
    assert answer.json()["detail"].startswith("Airflow does not answer: no answer from Airflow")


def test_a_dry_run_that_airflow_refuses_is_a_bad_gateway(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    run = new_run(nightly, RunState.FAILED)
    airflow.next_api_calls.append(Reply(400, {"detail": "no"}))
    client = as_user(ada)

    body = refused(
        lambda: client.post(f"{path_of(run)}/control", {"action": "retry", "dry_run": True}), 502, "upstream_error"
    )

    assert body["detail"] == "Airflow refuses: no"


# --- DAGs -------------------------------------------------------------------------------------------------------


def test_an_admin_syncs_the_dags(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)

    answer = client.post(f"{V1}/dags/sync")

    nothing: list[str] = []
    assert answer.json() == {"seen": ["etl"], "changed": ["etl"], "vanished": nothing, "import_errors": nothing}
    dag = client.get(f"{V1}/dags/etl").json()
    assert dag["params_schema"]["required"] == ["rows"]
    assert dag["params_schema"]["properties"]["rows"] == {**SCHEMA["properties"]["rows"], "description": "How many"}
    assert [(task["task_id"], task["downstream_task_ids"]) for task in dag["tasks"]] == [
        ("extract", ["transform"]),
        ("transform", ["load"]),
        ("load", []),
    ]
    assert (dag["tags"], dag["doc_md"], dag["is_paused"]) == (["nightly"], "# ETL", False)


def test_a_second_sync_changes_nothing(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)
    client.post(f"{V1}/dags/sync")

    again = client.post(f"{V1}/dags/sync").json()

    assert (again["changed"], again["vanished"]) == ([], [])
    assert list(Event.objects.values_list("type", flat=True)) == ["dag.synced"]


def test_a_dag_that_airflow_has_no_more_is_marked_so(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)
    client.post(f"{V1}/dags/sync")
    airflow.dags.clear()

    assert client.post(f"{V1}/dags/sync").json()["vanished"] == ["etl"]

    assert client.get(f"{V1}/dags/etl").json()["is_present"] is False
    assert Event.objects.last().data == {"dag_id": "etl", "changed": ["is_present"]}  # type: ignore[union-attr]


def test_an_import_error_is_kept_at_the_dag_of_its_very_file(
    as_user: AsUser, airflow: StagedAirflow, root: User
) -> None:
    client = as_user(root)
    error = {"import_error_id": 1, "stack_trace": "SyntaxError", "timestamp": None}
    airflow.import_errors = [{**error, "filename": "tl.py"}]
    assert client.post(f"{V1}/dags/sync").json()["import_errors"] == []

    airflow.import_errors = [{**error, "filename": "etl.py"}]
    assert client.post(f"{V1}/dags/sync").json()["import_errors"] == ["etl"]
    client.post(f"{V1}/dags/sync")

    assert client.get(f"{V1}/dags/etl").json()["import_error"] == "SyntaxError"
    told = Event.objects.filter(type="dag.import_error")
    assert [event.data for event in told] == [{"filename": "etl.py", "dag_ids": ["etl"], "error": "SyntaxError"}]


@pytest.mark.usefixtures("no_airflow")
def test_a_sync_without_airflow_says_so(as_user: AsUser, root: User) -> None:
    answer = as_user(root).post(f"{V1}/dags/sync")

    assert (answer.status_code, answer.json()["code"]) == (503, "upstream_unavailable")


def test_dags_are_filtered(as_user: AsUser, ada: User, etl: Dag) -> None:
    Dag.objects.create(dag_id="a.b", tags=["x"], is_paused=True)
    client = as_user(ada)

    def found(query: str) -> list[str]:
        return [dag["dag_id"] for dag in client.get(f"{V1}/dags?{query}").json()["results"]]

    assert found("") == ["a.b", "etl"]
    assert found("tag=x") == ["a.b"]
    assert found("is_paused=false") == ["etl"]
    assert found("search=ET") == ["etl"]
    assert client.get(f"{V1}/dags/a.b").json()["dag_id"] == "a.b"
    assert client.get(f"{V1}/dags/nope").status_code == 404


# --- Everything -------------------------------------------------------------------------------------------------


def test_a_path_with_a_slash_at_its_end_is_the_same(
    as_user: AsUser, airflow: StagedAirflow, ada: User, nightly: Workflow
) -> None:
    client = as_user(ada)

    for path in (f"{V1}/workflows", f"{V1}/workflows/{nightly.pk}", runs_of(nightly), f"{V1}/dags", f"{V1}/runs"):
        assert client.get(f"{path}/").json() == client.get(path).json()
    assert client.post(f"{runs_of(nightly)}/", {}).status_code == 201


@pytest.mark.parametrize("path", ["dags", "dags/etl", "workflows", "workflows/{id}", "workflows/{id}/runs", "runs"])
def test_people_see_browsable_pages(as_user: AsUser, ada: User, nightly: Workflow, path: str) -> None:
    new_run(nightly)

    answer = as_user(ada).get(f"{V1}/{path.format(id=nightly.pk)}", HTTP_ACCEPT="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"breadcrumb" in answer.content


def test_a_browsable_page_names_no_other_users(as_user: AsUser, vera: User, nightly: Workflow) -> None:
    User.objects.create_user("xanthippe", "x@example.com")

    page = as_user(vera).get(f"{V1}/workflows", HTTP_ACCEPT="text/html").content

    assert b"xanthippe" not in page


@pytest.mark.parametrize(
    ("path", "queries"),
    [
        ("dags", 3),  # the token, the count, the page
        ("workflows", 3),
        ("workflows/{id}/runs", 4),  # the token, the workflow, the page, Airflow's state
        ("runs", 3),
        ("workflows/{id}/runs/{run}/tasks", 5),
        ("workflows/{id}/runs/{run}/events", 4),
    ],
)
def test_a_list_costs_the_same_number_of_queries_however_long_it_is(
    ada: User,
    eve: User,
    etl: Dag,
    nightly: Workflow,
    django_assert_num_queries: DjangoAssertNumQueries,
    path: str,
    queries: int,
) -> None:
    AirflowState.current()
    run = new_run(nightly)
    client = bearer(token_of(ada))
    url = f"{V1}/{path.format(id=nightly.pk, run=run.pk)}"

    def more(n: int) -> None:
        Dag.objects.create(dag_id=f"dag{n}")
        Workflow.objects.create(name=f"w{n}", dag=etl, owner=eve, visibility=Visibility.INTERNAL)
        new_run(nightly, user=eve if n % 2 else ada)
        run.tasks.create(task_id=f"t{n}")
        Event.objects.create(run=run, workflow=nightly, seq=n, position=n, type="task.started", timestamp=NOW)

    more(1)
    with django_assert_num_queries(queries):
        client.get(url)
    for n in range(2, 12):
        more(n)
    with django_assert_num_queries(queries):
        client.get(url)


def test_the_openapi_description_is_made_without_a_warning() -> None:
    out = StringIO()

    call_command("spectacular", "--validate", "--fail-on-warn", stdout=out, stderr=out)

    assert "openapi: 3." in out.getvalue()
