"""Airflows over the API, and two of them that have DAGs and runs of the same ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import AuditEntry, User
from workflows import gateway, services
from workflows.dagrules import DagMatch, DagRule
from workflows.models import Airflow, Dag, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, dag_task, new_run

V1 = "/api/v1"
OPTIONS = {"username": "svops", "password": "s3cret"}
BODY = {"name": "prod", "url": "https://airflow.example.com/team", "options": OPTIONS}
As = Callable[[User], APIClient]


@pytest.fixture
def prod(root: User) -> Airflow:
    return services.create_airflow(actor=root, name="prod", options={"url": BODY["url"], **OPTIONS})


@pytest.fixture
def etl_there(prod: Airflow, etl: Dag) -> Dag:
    """A DAG of the same dag_id, with other tasks, in another Airflow."""
    return Dag.objects.create(airflow=prod, dag_id="etl", tasks=[dag_task("copy")], tags=["there"])


@pytest.fixture
def there(etl_there: Dag, ada: User) -> Workflow:
    return Workflow.objects.create(name="There", dag=etl_there, owner=ada)


def named(answer: Any, *names: str) -> Any:
    """Return these fields of each row of a list, or of one answer."""
    body = answer.json()
    rows = body.get("results", body) if isinstance(body, dict) else body
    if isinstance(rows, dict):
        return tuple(rows[name] for name in names)
    return [tuple(row[name] for name in names) for row in rows]


# --- Airflows --------------------------------------------------------------------------------------------------


def test_an_airflow_is_added_shown_changed_drained_and_deleted(root: User, as_user: As) -> None:
    client = as_user(root)

    added = client.post(f"{V1}/airflows", BODY | {"options": OPTIONS | {"token_timeout": 3, "ingest_secret": "hush"}})

    expected = {
        "name": "prod",
        "url": "https://airflow.example.com/team",
        "auth": "password",
        "options": {"username": "svops", "token_timeout": 3.0},
        "secrets": ["ingest_secret", "password"],
        "is_active": True,
        "from_file": False,
        "drained": False,
        "drained_at": None,
        "emptied_at": None,
        "reachable": True,
        "stale": True,
        "version": "",
        "last_error": "",
        "looked_at": None,
        "open_runs": 0,
    }
    assert (added.status_code, added.json()) == (201, expected)
    assert client.get(f"{V1}/airflows/prod").json() == expected

    changed = client.patch(f"{V1}/airflows/prod", {"options": {"token_timeout": None}, "drained": True})
    assert changed.status_code == 200
    assert (changed.json()["options"], changed.json()["drained"]) == ({"username": "svops"}, True)
    assert changed.json()["drained_at"] is not None
    assert client.patch(f"{V1}/airflows/prod", {"drained": False}).json()["drained_at"] is None

    assert client.delete(f"{V1}/airflows/prod").status_code == 204
    assert client.get(f"{V1}/airflows/prod").status_code == 404
    actions = list(AuditEntry.objects.filter(object_name="prod").order_by("id").values_list("action", flat=True))
    assert actions == ["airflow.added", "airflow.changed", "airflow.drained", "airflow.undrained", "airflow.deleted"]


def test_the_list_counts_open_runs_of_each_and_masks_what_airflow_said(
    root: User, as_user: As, nightly: Workflow, there: Workflow, settings: Settings
) -> None:
    settings.AIRFLOW_URL, settings.AIRFLOW_PASSWORD, settings.AIRFLOW_TOKEN = "http://one:8080", "s3cret", ""
    for workflow, state in ((nightly, RunState.RUNNING), (nightly, RunState.SUCCESS), (there, RunState.QUEUED)):
        Run.objects.filter(pk=new_run(workflow, state).pk).update(airflow=workflow.dag.airflow_name)
    Airflow.objects.filter(name="prod").update(last_error="GET https://u:hush@host")

    answer = as_user(root).get(f"{V1}/airflows")

    assert named(answer, "name", "open_runs", "last_error") == [
        ("default", 1, ""),
        ("prod", 1, "GET https://u:***@host"),
    ]
    assert answer.json()["results"][0]["url"] == "http://one:8080"
    assert "s3cret" not in answer.content.decode()


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"name": "a b"}, {"name"}),
        ({"url": "airflow"}, {"url"}),
        ({"url": None}, {"url"}),
        ({"auth": "magic"}, {"auth"}),
        ({"auth": "token"}, {"options.token"}),
        ({"options": {}}, {"options.username", "options.password"}),
        ({"options": OPTIONS | {"url": "https://elsewhere"}}, {"options.url"}),
        ({"options": OPTIONS | {"ca_file": "/etc/passwd"}}, {"options.ca_file"}),
        ({"options": OPTIONS | {"pasword": "x"}}, {"options.pasword"}),
        ({"options": OPTIONS | {"headers": {"Cookie": "x"}}}, {"options.headers"}),
        ({"options": [1]}, {"options"}),
        ({"is_active": "perhaps"}, {"is_active"}),
        ({"drained": True}, {"drained"}),
    ],
)
def test_a_wrong_field_of_an_airflow_is_named(root: User, as_user: As, body: dict[str, Any], errors: set[str]) -> None:
    answer = as_user(root).post(f"{V1}/airflows", BODY | body)

    assert (answer.status_code, set(answer.json()["errors"])) == (400, errors)
    assert not Airflow.objects.filter(name="prod").exists()


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ({"url": "https://elsewhere"}, 400, {"options.password"}),
        ({"options": {"password": ""}}, 400, {"options.password"}),
        ({"name": "other"}, 400, {"name"}),
    ],
)
def test_a_wrong_change_of_an_airflow_changes_nothing(
    root: User, as_user: As, prod: Airflow, body: dict[str, Any], status: int, errors: set[str]
) -> None:
    before = Airflow.objects.filter(name="prod").values().get()

    answer = as_user(root).patch(f"{V1}/airflows/prod", body)

    assert (answer.status_code, set(answer.json()["errors"])) == (status, errors)
    assert Airflow.objects.filter(name="prod").values().get() == before


def test_an_airflow_with_workflows_is_not_deleted(root: User, as_user: As, there: Workflow) -> None:
    answer = as_user(root).delete(f"{V1}/airflows/prod")

    assert (answer.status_code, answer.json()["code"]) == (409, "airflow_in_use")
    assert (answer.json()["workflows"], answer.json()["runs"]) == (1, 0)


# --- Two DAGs of one dag_id ------------------------------------------------------------------------------------


def test_dags_are_named_with_their_airflow(ada: User, as_user: As, etl: Dag, etl_there: Dag) -> None:
    client = as_user(ada)

    assert named(client.get(f"{V1}/dags"), "airflow", "dag_id") == [("default", "etl"), ("prod", "etl")]
    assert named(client.get(f"{V1}/dags?airflow=prod"), "airflow", "tags") == [("prod", ["there"])]
    assert named(client.get(f"{V1}/dags/etl"), "airflow", "tags") == ("default", [])
    assert named(client.get(f"{V1}/dags/etl?airflow=prod"), "airflow", "tags") == ("prod", ["there"])
    assert client.get(f"{V1}/dags/etl?airflow=nowhere").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "airflow"),
    [
        ({}, 201, "default"),
        ({"airflow": "default"}, 201, "default"),
        ({"airflow": "prod"}, 201, "prod"),
        ({"airflow": "nowhere"}, 400, ""),
        ({"airflow": ""}, 400, ""),
    ],
)
def test_a_workflow_names_the_airflow_of_its_dag(
    ada: User, as_user: As, etl_there: Dag, body: dict[str, Any], status: int, airflow: str
) -> None:
    answer = as_user(ada).post(f"{V1}/workflows", {"name": "Mine", "dag_id": "etl"} | body)

    assert answer.status_code == status
    if airflow:
        assert named(answer, "airflow", "dag_id") == (airflow, "etl")
        assert Workflow.objects.get().dag.airflow_name == airflow
    else:
        assert not Workflow.objects.exists()


def test_a_workflow_moves_and_its_history_stays(ada: User, as_user: As, nightly: Workflow, etl_there: Dag) -> None:
    left = new_run(nightly, RunState.RUNNING)
    client = as_user(ada)
    client.patch(f"{V1}/workflows/{nightly.pk}", {"default_parameters": {}})

    moved = client.patch(f"{V1}/workflows/{nightly.pk}", {"airflow": "prod"})

    assert named(moved, "airflow", "dag_id") == ("prod", "etl")
    of_run = client.get(f"{V1}/workflows/{nightly.pk}/runs/{left.pk}")
    assert named(of_run, "airflow", "state") == ("default", "running")
    run = Run.objects.get(pk=left.pk)
    assert (run.dag.airflow_name, run.workflow.dag.airflow_name) == ("default", "prod")
    entry = AuditEntry.objects.filter(action="workflow.changed").latest("id")
    assert entry.before
    assert entry.after
    assert (entry.before["airflow"], entry.after["airflow"]) == ("default", "prod")
    back = client.patch(f"{V1}/workflows/{nightly.pk}", {"airflow": "default"})
    assert named(back, "airflow") == ("default",)


def test_a_workflow_moves_only_to_a_dag_that_its_owner_may_build_on(
    ada: User, as_user: As, nightly: Workflow, etl_there: Dag, settings: Settings
) -> None:
    settings.DAG_ACCESS = "closed"
    DagRule.objects.create(match=DagMatch.ALL, user=ada)
    client = as_user(ada)
    path = f"{V1}/workflows/{nightly.pk}"

    refused = client.patch(path, {"airflow": "prod", "default_parameters": {}})
    assert (refused.status_code, refused.json()["errors"]) == (
        400,
        {"airflow": ["There is no DAG etl in the Airflow prod, or you cannot see it: see GET /api/v1/dags."]},
    )
    assert Workflow.objects.get(pk=nightly.pk).dag.airflow_name == "default"
    unknown = client.patch(path, {"airflow": "nope", "default_parameters": {}})
    assert unknown.json()["errors"] == {"airflow": ["There is no Airflow nope."]}

    DagRule.objects.create(airflow="prod", match=DagMatch.DAG_ID, value="etl", user=ada)
    assert client.patch(path, {"airflow": "prod", "default_parameters": {}}).status_code == 200


def test_a_change_of_the_dag_stays_in_the_airflow_of_the_workflow(ada: User, as_user: As, there: Workflow) -> None:
    Dag.objects.create(airflow_id="prod", dag_id="other")
    Dag.objects.create(dag_id="other")

    answer = as_user(ada).patch(f"{V1}/workflows/{there.pk}", {"dag_id": "other"})

    assert named(answer, "airflow", "dag_id") == ("prod", "other")


def test_lists_filter_by_airflow(ada: User, as_user: As, nightly: Workflow, there: Workflow) -> None:
    client = as_user(ada)
    new_run(nightly)
    Run.objects.filter(pk=new_run(there).pk).update(airflow="prod")

    for airflow, workflow in (("default", nightly), ("prod", there)):
        listed = client.get(f"{V1}/workflows?airflow={airflow}")
        assert named(listed, "name", "airflow") == [(workflow.name, airflow)]
        listed = client.get(f"{V1}/runs?airflow={airflow}")
        assert named(listed, "workflow_id", "airflow") == [(workflow.pk, airflow)]
    assert named(client.get(f"{V1}/runs?airflow=nowhere"), "id") == []


def test_a_pause_is_of_one_dag_alone(root: User, as_user: As, nightly: Workflow, there: Workflow) -> None:
    frozen, free = new_run(nightly, RunState.RUNNING), new_run(there, RunState.RUNNING)
    Run.objects.filter(pk=free.pk).update(airflow="prod")
    Airflow.objects.update(reachable=False)

    assert as_user(root).post(f"{V1}/workflows/{nightly.pk}/pause", {}).status_code == 200

    paused = {dag.airflow_name: dag.is_paused for dag in Dag.objects.all()}
    assert paused == {"default": True, "prod": False}
    assert dict(Run.objects.values_list("pk", "paused")) == {frozen.pk: True, free.pk: False}


@pytest.mark.parametrize(
    ("airflow", "seen"), [(None, {"default"}), ("default", {"default"}), ("prod", {"prod"}), ("", {"default", "prod"})]
)
def test_a_dag_rule_is_for_one_airflow_or_for_every(
    root: User, eve: User, as_user: As, etl_there: Dag, settings: Settings, airflow: str | None, seen: set[str]
) -> None:
    settings.DAG_ACCESS = "closed"
    body = {"match": "dag_id", "value": "etl", "user": "eve"} | ({} if airflow is None else {"airflow": airflow})

    answer = as_user(root).post(f"{V1}/dag-rules", body)

    assert (answer.status_code, answer.json()["airflow"]) == (201, "default" if airflow is None else airflow)
    assert {name for (name,) in named(as_user(eve).get(f"{V1}/dags"), "airflow")} == seen


# --- Sync ------------------------------------------------------------------------------------------------------


@pytest.fixture
def reached(root: User) -> Iterator[StagedAirflow]:
    with StagedAirflow() as server:
        options = {"url": server.url, "username": "admin", "password": "admin"}
        services.create_airflow(actor=root, name="prod", options=options)
        yield server
        gateway.client_of("prod").close()
        gateway.pooled_client.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_a_sync_is_of_the_named_airflow(root: User, as_user: As, reached: StagedAirflow, no_airflow: None) -> None:
    client = as_user(root)

    synced = client.post(f"{V1}/dags/sync?airflow=prod")

    assert (synced.status_code, synced.json()["seen"]) == (200, ["etl"])
    assert [(dag.airflow_name, dag.dag_id) for dag in Dag.objects.all()] == [("prod", "etl")]
    unknown = client.post(f"{V1}/dags/sync?airflow=nowhere")
    assert (unknown.status_code, set(unknown.json()["errors"])) == (400, {"airflow"})
    assert client.post(f"{V1}/dags/sync").status_code == 503
