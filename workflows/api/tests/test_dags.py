"""DAGs over the REST API, and their sync."""

from __future__ import annotations

import pytest

from accounts.models import User
from workflows.api.tests.asking import V1, AsUser
from workflows.models import Dag, Event
from workflows.tests.stage import SCHEMA, StagedAirflow

pytestmark = pytest.mark.django_db


def test_an_admin_syncs_the_dags(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)

    answer = client.post(f"{V1}/dags/sync")

    nothing: list[str] = []
    assert answer.json() == {
        "seen": ["etl"],
        "changed": ["etl"],
        "vanished": nothing,
        "import_errors": nothing,
        "unusable": nothing,
    }
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


def test_a_dag_that_is_gone_from_airflow_is_marked(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)
    client.post(f"{V1}/dags/sync")
    airflow.dags.clear()

    assert client.post(f"{V1}/dags/sync").json()["vanished"] == ["etl"]

    assert client.get(f"{V1}/dags/etl").json()["is_present"] is False
    assert Event.objects.last().data == {"airflow": "default", "dag_id": "etl", "changed": ["is_present"]}  # type: ignore[union-attr]


def test_an_import_error_is_stored_for_the_dag_of_its_file(as_user: AsUser, airflow: StagedAirflow, root: User) -> None:
    client = as_user(root)
    error = {"import_error_id": 1, "stack_trace": "SyntaxError", "timestamp": None}
    airflow.import_errors = [{**error, "filename": "tl.py"}]
    assert client.post(f"{V1}/dags/sync").json()["import_errors"] == []

    airflow.import_errors = [{**error, "filename": "etl.py"}]
    assert client.post(f"{V1}/dags/sync").json()["import_errors"] == ["etl"]
    client.post(f"{V1}/dags/sync")

    assert client.get(f"{V1}/dags/etl").json()["import_error"] == "SyntaxError"
    recorded = Event.objects.filter(type="dag.import_error").order_by("id")
    assert [event.data for event in recorded] == [
        {"airflow": "default", "filename": "tl.py", "dag_ids": [], "error": "SyntaxError"},
        {"airflow": "default", "filename": "etl.py", "dag_ids": ["etl"], "error": "SyntaxError"},
    ]


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
