"""What the client does differently for Airflow 2.11; the answers are shaped as 2.11.2 gave them."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workflows.airflow import AirflowClient, errors, types

from .scripted import Reply, Request, ScriptedAirflow, by_password, paged, run_json, task_json

DAG: dict[str, Any] = {
    "dag_id": "etl",
    "description": None,
    "is_paused": False,
    "is_active": True,
    "tags": [{"name": "demo"}],
    "owners": ["airflow"],
    "schedule_interval": {"__type": "CronExpression", "value": "0 0 * * *"},
    "max_active_runs": 16,
    "fileloc": "/dags/etl.py",
}

PROOF = f"Basic {base64.b64encode(b'admin:admin').decode()}"


def give_sessions(airflow: ScriptedAirflow) -> None:
    """The form for signing in, as 2.11 has it. Each sign-in ends the session before."""
    begun: list[str] = []

    def form(_request: Request) -> Reply:
        page = b'<input id="csrf_token" name="csrf_token" type="hidden" value="Im.x_y-z">'
        return Reply(200, page, {"Set-Cookie": "session=of-the-form; HttpOnly; Path=/"})

    def sign_in(request: Request) -> Reply:
        sent = {"username": "admin", "password": airflow.password, "csrf_token": "Im.x_y-z"}
        if (request.body, request.headers["Cookie"]) != (sent, "session=of-the-form"):
            return Reply(302, None, {"Location": "/login/"})
        begun.append(f"session={len(begun) + 1}")
        return Reply(302, None, {"Location": "/home", "Set-Cookie": f"{begun[-1]}; HttpOnly; Path=/"})

    def pools(request: Request) -> Reply:
        if request.headers.get("Cookie") == begun[-1] or request.headers.get("Authorization") == PROOF:
            return Reply(200, {"pools": [], "total_entries": 0})
        return Reply(403, {"detail": None, "status": 403, "title": "Forbidden"})

    airflow.pages = {("GET", "/login/"): form, ("POST", "/login/"): sign_in}
    airflow.answers["GET", "/pools"] = pools


def test_without_a_form_to_sign_in_requests_carry_user_name_and_password(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    airflow_2.runs["etl", "1"] = run_json("etl", "1")

    for _ in range(2):
        client_of_2.runs.get("etl", "1")

    assert airflow_2.last().headers["Authorization"] == PROOF
    assert [request.path for request in airflow_2.requests] == [
        "/api/v2/version",
        "/api/v1/version",
        "/login/",
        "/api/v1/dags/etl/dagRuns/1",
        "/api/v1/dags/etl/dagRuns/1",
    ]


def test_one_session_carries_many_requests(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    give_sessions(airflow_2)

    for _ in range(3):
        client_of_2.pools()

    asked = [request for request in airflow_2.requests if request.path == "/api/v1/pools"]
    assert [request.headers.get("Cookie") for request in asked] == ["session=1"] * 3
    assert [request.headers.get("Authorization") for request in asked] == [None] * 3


def test_after_a_session_has_ended_requests_carry_user_name_and_password(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    give_sessions(airflow_2)
    client_of_2.pools()
    with AirflowClient(by_password(airflow_2.url)) as other:
        other.pools()

    client_of_2.pools()

    assert airflow_2.last().headers["Authorization"] == PROOF
    assert [request.path for request in airflow_2.requests].count("/login/") == 4


def test_a_request_that_the_role_does_not_allow_is_sent_twice_and_opens_no_other_session(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    give_sessions(airflow_2)
    airflow_2.answers["GET", "/dags/etl/dagRuns/1"] = lambda _: Reply(403, {"detail": None, "title": "Forbidden"})

    airflow_2.answers["GET", "/dags"] = {"dags": [], "total_entries": 0}

    for _ in range(2):
        with pytest.raises(errors.AirflowForbiddenError):
            client_of_2.runs.get("etl", "1")

    run, dags = ("GET", "/dags/etl/dagRuns/1"), ("GET", "/dags")
    assert airflow_2.calls == [run, run, dags, run, dags]
    assert [request.path for request in airflow_2.requests].count("/login/") == 2


def test_trigger_names_only_what_2_11_knows(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    answer = run_json("etl", "1", logical_date="2026-11-23T12:00:00+00:00", external_trigger=True)
    del answer["triggered_by"], answer["queued_at"]
    airflow_2.answers["POST", "/dags/etl/dagRuns"] = answer

    run = client_of_2.runs.trigger("etl", dag_run_id="1", conf={"size": 1})

    assert airflow_2.last().body == {"dag_run_id": "1", "conf": {"size": 1}}
    assert run.logical_date == datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert (run.triggered_by, run.queued_at) == (None, None)


def test_trigger_gives_2_11_the_dates_of_the_run(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    date, start, end = (datetime(2026, 3, day, tzinfo=UTC) for day in (3, 1, 2))
    airflow_2.answers["POST", "/dags/etl/dagRuns"] = run_json("etl", "1", logical_date="2026-03-03T00:00:00+00:00")

    run = client_of_2.runs.trigger("etl", dag_run_id="1", conf={}, logical_date=date, data_interval=(start, end))

    assert airflow_2.last().body == {
        "dag_run_id": "1",
        "conf": {},
        "logical_date": "2026-03-03T00:00:00+00:00",
        "data_interval_start": "2026-03-01T00:00:00+00:00",
        "data_interval_end": "2026-03-02T00:00:00+00:00",
    }
    assert run.logical_date == date


def test_wrong_credentials_are_an_auth_error_without_another_try(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    airflow_2.next_api_calls.extend([Reply(403, {"detail": None, "status": 403, "title": "Forbidden"})] * 2)

    with pytest.raises(errors.AirflowAuthError, match=r"^Forbidden$"):
        client_of_2.runs.get("etl", "1")

    assert airflow_2.calls == [("GET", "/dags/etl/dagRuns/1"), ("GET", "/dags")]


def test_an_internal_error_page_is_unavailable(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    airflow_2.next_api_calls.append(Reply(500, b"<!DOCTYPE html><h1>Ooops!</h1>"))

    with pytest.raises(errors.AirflowUnavailableError, match=r"^HTTP 500 Internal Server Error$"):
        client_of_2.runs.get("etl", "1")


@pytest.mark.parametrize(
    ("interval", "summary"),
    [
        (None, None),
        ({"__type": "CronExpression", "value": "0 0 * * *"}, "0 0 * * *"),
        ({"__type": "TimeDelta", "days": 1, "seconds": 0, "microseconds": 0}, "TimeDelta"),
    ],
)
def test_the_schedule_of_a_dag_is_summed_up(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient, interval: Any, summary: str | None
) -> None:
    airflow_2.answers["GET", "/dags"] = paged("dags", [{**DAG, "schedule_interval": interval}])

    [dag] = client_of_2.dags.list()

    assert isinstance(dag, types.Dag)
    assert (dag.timetable_summary, dag.is_stale) == (summary, False)


def test_details_of_a_dag_have_the_owners_that_2_11_leaves_out_of_them(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    param = {"__class": "airflow.models.param.Param", "value": 1, "schema": {}, "description": None}
    airflow_2.answers["GET", "/dags/etl"] = DAG
    airflow_2.answers["GET", "/dags/etl/details"] = {
        **DAG,
        "owners": [],
        "is_active": False,
        "doc_md": None,
        "params": {"size": param},
        "dag_run_timeout": {"__type": "TimeDelta", "days": 1, "seconds": 40, "microseconds": 0},
    }

    dag = client_of_2.dags.get("etl")

    assert (dag.owners, dag.is_stale) == (("airflow",), True)
    assert dag.run_timeout == timedelta(days=1, seconds=40)
    assert dag.params == {"size": types.DagParam(value=1, schema={}, description=None)}


def test_changed_tasks_are_asked_for_without_parameters_that_2_11_refuses(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    airflow_2.answers["GET", "/dags/~/dagRuns/~/taskInstances"] = paged(
        "task_instances", [task_json("etl", "1", "load"), task_json("other", "1", "load")]
    )

    tasks = client_of_2.tasks.changed_since(datetime(2026, 11, 23, tzinfo=UTC), dag_ids=["etl"])

    assert [task.dag_id for task in tasks] == ["etl"]
    others, running = (dict(request.query) for request in airflow_2.requests[-2:])
    page = {"limit": ["1000"], "offset": ["0"]}
    # 2.11 does not know `awaiting_input`, and answers `no_status` with an internal error.
    states = set(others.pop("state"))
    assert {"none", "queued", "deferred", "success"} < states
    assert states.isdisjoint({"running", "awaiting_input", "no_status"})
    assert others == {**page, "updated_at_gte": ["2026-11-23T00:00:00+00:00"]}
    assert running == {**page, "state": ["running"], "start_date_gte": ["2026-11-22T23:59:40+00:00"]}


def test_cleared_instances_of_a_mapped_task_are_one_reference(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    reference = {"dag_id": "etl", "dag_run_id": "1", "task_id": "load", "execution_date": "2026-11-23"}
    airflow_2.answers["POST", "/dags/etl/clearTaskInstances"] = {"task_instances": [reference] * 3}

    refs = client_of_2.tasks.clear("etl", "1", only_failed=True, include_downstream=False, dry_run=False)

    assert refs == [types.TaskRef(dag_id="etl", dag_run_id="1", task_id="load", map_index=-1)]


def test_a_clear_of_single_instances_names_their_task(airflow_2: ScriptedAirflow, client_of_2: AirflowClient) -> None:
    airflow_2.answers["POST", "/dags/etl/clearTaskInstances"] = {"task_instances": []}

    client_of_2.tasks.clear(
        "etl", "1", task_ids=["sum"], instances=[("part", 1), ("part", 2)], only_failed=True, dry_run=False
    )

    assert airflow_2.last().body["task_ids"] == ["part", "sum"]


def test_clearing_a_run_returns_its_instances_as_they_were_before(
    airflow_2: ScriptedAirflow, client_of_2: AirflowClient
) -> None:
    rows = [task_json("etl", "1", "load", state="failed", map_index=n) for n in (0, 1)]
    airflow_2.answers["GET", "/dags/etl/dagRuns/1/taskInstances"] = paged("task_instances", rows)
    reference = {"dag_id": "etl", "dag_run_id": "1", "task_id": "load", "execution_date": "2026-11-23"}
    airflow_2.answers["POST", "/dags/etl/clearTaskInstances"] = {"task_instances": [reference] * 2}

    cleared = client_of_2.runs.clear("etl", "1", dry_run=False)

    assert [(task.map_index, task.state) for task in cleared] == [(0, "failed"), (1, "failed")]
    assert airflow_2.last().body["dry_run"] is False
