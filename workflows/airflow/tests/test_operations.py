"""What the client asks Airflow 3 for and how it reads the answers."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from workflows.airflow import AirflowClient, errors, types

from .scripted import Reply, Request, ScriptedAirflow, paged, run_json, task_json

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RUNS, TASKS = "/dags/~/dagRuns", "/dags/~/dagRuns/~/taskInstances"
ETL_DETAILS = {
    "dag_id": "etl",
    "description": None,
    "is_paused": False,
    "is_stale": False,
    "tags": [{"name": "demo", "dag_id": "etl"}],
    "owners": ["airflow"],
    "timetable_summary": "0 0 * * *",
    "max_active_runs": 16,
    "fileloc": "/dags/etl.py",
    "doc_md": "# ETL",
    "params": {"size": {"value": 1, "schema": {"type": "integer"}, "description": "rows", "source": None}},
}


def test_trigger_sends_our_id_and_no_logical_date(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    run = client.runs.trigger("etl", dag_run_id="svops__1", conf={"size": 2}, note="hello")

    assert airflow.last().body == {
        "dag_run_id": "svops__1",
        "conf": {"size": 2},
        "note": "hello",
        "logical_date": None,
    }
    assert run == types.DagRun(
        dag_id="etl",
        dag_run_id="svops__1",
        state="queued",
        run_type="manual",
        conf={"size": 2},
        note="hello",
        logical_date=None,
        queued_at=datetime(2026, 11, 23, 6, 39, 35, 254413, tzinfo=UTC),
        start_date=None,
        end_date=None,
        triggered_by="rest_api",
    )


def test_nothing_is_asked_before_the_first_call(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    assert airflow.requests == []


def test_version_and_login_are_looked_at_once(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    for number in range(3):
        client.runs.trigger("etl", dag_run_id=f"svops__{number}", conf={})

    assert [request.path for request in airflow.requests][:2] == ["/api/v2/version", "/auth/token"]
    assert len(airflow.requests) == 5


def test_health_is_told_with_a_wrong_password_too(airflow: ScriptedAirflow) -> None:
    airflow.answers["GET", "/monitor/health"] = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": "2026-11-23T12:00:00+00:00"},
        "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    }
    with AirflowClient(airflow.url, username="admin", password="wrong") as client:
        health = client.health()

    absent = types.ComponentHealth(status=None, latest_heartbeat=None)
    assert health == types.Health(
        metadatabase=types.ComponentHealth(status="healthy", latest_heartbeat=None),
        scheduler=types.ComponentHealth(status="unhealthy", latest_heartbeat=NOON),
        dag_processor=absent,
        triggerer=absent,
    )
    assert airflow.logins == 0


def test_every_part_of_a_path_is_quoted(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    with pytest.raises(errors.AirflowNotFoundError):
        client.runs.get("ä?b#c", "scheduled__2026-11-23T00:00:00+00:00")

    assert airflow.last().raw_path == (
        "/api/v2/dags/%C3%A4%3Fb%23c/dagRuns/scheduled__2026-11-23T00%3A00%3A00%2B00%3A00"
    )


def test_all_pages_of_dags_are_read(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", "/dags"] = paged(
        "dags", [{**ETL_DETAILS, "dag_id": f"dag_{number}"} for number in range(230)]
    )

    dags = client.dags.list(tags={"b", "a"})

    assert [dag.dag_id for dag in dags] == [f"dag_{number}" for number in range(230)]
    assert len(airflow.calls) == 3
    assert airflow.last().query == {
        "order_by": ["dag_id"],
        "tags": ["a", "b"],
        "limit": ["100"],
        "offset": ["200"],
    }


def test_the_details_of_a_dag_carry_its_parameters(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", "/dags/etl/details"] = ETL_DETAILS

    assert client.dags.get("etl") == types.DagDetails(
        dag_id="etl",
        description=None,
        is_paused=False,
        is_stale=False,
        tags=("demo",),
        owners=("airflow",),
        timetable_summary="0 0 * * *",
        max_active_runs=16,
        fileloc="/dags/etl.py",
        doc_md="# ETL",
        params={"size": types.DagParam(value=1, schema={"type": "integer"}, description="rows")},
    )


def test_a_task_is_read_with_retries_that_airflow_writes_as_a_float(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    airflow.answers["GET", "/dags/etl/tasks"] = {
        "tasks": [
            {
                "task_id": "load",
                "downstream_task_ids": ["check"],
                "operator_name": "@task",
                "trigger_rule": "all_success",
                "retries": 2.0,
                "is_mapped": True,
                "pool": "default_pool",
            }
        ],
        "total_entries": 1,
    }

    assert client.dags.tasks("etl") == [
        types.DagTask(
            task_id="load",
            downstream_task_ids=("check",),
            operator="@task",
            trigger_rule="all_success",
            retries=2,
            is_mapped=True,
            pool="default_pool",
        )
    ]


def test_changed_runs_are_those_of_our_dags_with_the_oldest_change_first(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    newest_first = [run_json("etl", "c"), run_json("etl_2", "b"), run_json("etl", "a")]
    airflow.answers["GET", RUNS] = paged("dag_runs", newest_first)
    when = NOON.astimezone(timezone(timedelta(hours=2)))

    runs = client.runs.changed_since(when, dag_ids=["etl", "load"])

    assert [run.dag_run_id for run in runs] == ["a", "c"]
    assert airflow.last().query == {
        "updated_at_gte": ["2026-11-23T12:00:00+00:00"],
        "order_by": ["-updated_at"],
        "dag_id_prefix_pattern": ["etl|load"],
        "limit": ["100"],
        "offset": ["0"],
    }


def test_a_moment_without_a_time_zone_is_not_guessed(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    with pytest.raises(ValueError, match="time zone"):
        client.runs.changed_since(NOON.replace(tzinfo=None), dag_ids=["etl"])


def test_a_run_that_changes_between_two_pages_hides_no_other_and_comes_once(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    rows = [run_json("etl", str(number)) for number in range(150)]

    def changing(request: Request) -> Reply:
        page = paged("dag_runs", rows)(request)
        rows.insert(0, rows.pop(rows.index(run_json("etl", "50"))))
        return page

    airflow.answers["GET", RUNS] = changing

    runs = client.runs.changed_since(NOON, dag_ids=["etl"])

    assert [run.dag_run_id for run in runs] == [str(number) for number in reversed(range(150))]


def test_runs_are_listed_in_one_request_for_many(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["POST", f"{RUNS}/list"] = paged("dag_runs", [run_json("etl", str(n)) for n in range(900)])

    runs = client.runs.list(dag_ids={"load", "etl"}, states=["running", "queued"])

    assert len(runs) == 900
    assert [request.body for request in airflow.requests[2:]] == [
        {
            "dag_ids": ["etl", "load"],
            "states": ["queued", "running"],
            "order_by": "id",
            "page_limit": 1000,
            "page_offset": 0,
        }
    ]


def test_no_dags_no_runs_and_no_question(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    assert client.runs.list(dag_ids=[]) == []
    assert client.runs.changed_since(NOON, dag_ids=[]) == []
    assert client.tasks.changed_since(NOON, dag_ids=[]) == []
    assert client.tasks.list(dag_run_ids={"etl": []}) == []
    assert airflow.requests == []


def test_task_instances_of_many_runs_are_asked_for_in_chunks(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    def one_task_each(request: Request) -> Reply:
        rows = [task_json("etl", run_id, "load") for run_id in request.body["dag_run_ids"]]
        return paged("task_instances", rows)(request)

    airflow.answers["POST", f"{TASKS}/list"] = one_task_each
    run_ids = [f"svops__{number:03}" for number in range(450)]

    tasks = client.tasks.list(dag_run_ids={"etl": run_ids})

    assert [task.dag_run_id for task in tasks] == run_ids
    assert [len(request.body["dag_run_ids"]) for request in airflow.requests[2:]] == [200, 200, 50]


def test_one_run_is_asked_for_without_a_trace_in_the_audit_log(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    rows = [task_json("etl", "1", "load", map_index=number) for number in range(130)]
    airflow.answers["GET", "/dags/etl/dagRuns/1/taskInstances"] = paged("task_instances", rows)

    tasks = client.tasks.list(dag_run_ids={"etl": ["1"]})

    assert [task.map_index for task in tasks] == list(range(130))
    assert airflow.calls == [("GET", "/dags/etl/dagRuns/1/taskInstances")] * 2


def test_an_unknown_run_has_no_task_instances(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.next_api_calls.append(Reply(404, {"detail": "DagRun not found"}))

    assert client.tasks.list(dag_run_ids={"etl": ["1"]}) == []


def test_a_run_id_that_two_dags_share_gives_the_tasks_of_the_wanted_one_only(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    rows = [task_json(dag_id, run_id, "t") for dag_id in ("etl", "load") for run_id in ("1", "2")]
    airflow.answers["POST", f"{TASKS}/list"] = paged("task_instances", rows)

    tasks = client.tasks.list(dag_run_ids={"etl": ["1"], "load": ["2"]})

    assert [(task.dag_id, task.dag_run_id) for task in tasks] == [("etl", "1"), ("load", "2")]


def test_changed_tasks_come_in_the_order_of_their_own_times(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    rows = [
        task_json("etl", "1", "third", queued_when="2026-11-23T12:00:01Z", start_date="2026-11-23T12:00:03Z"),
        task_json("other", "1", "not ours"),
        task_json("etl", "1", "second", start_date="2026-11-23T12:00:00Z", end_date="2026-11-23T12:00:02Z"),
        task_json("etl", "1", "first"),
    ]
    airflow.answers["GET", TASKS] = paged("task_instances", rows)

    tasks = client.tasks.changed_since(NOON, dag_ids=["etl"])

    assert [task.task_id for task in tasks] == ["first", "second", "third"]


def test_clear_says_that_it_is_no_dry_run(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    cleared = [task_json("etl", "1", "load"), task_json("etl", "1", "load", map_index=3)]
    airflow.answers["POST", "/dags/etl/clearTaskInstances"] = paged("task_instances", cleared)

    refs = client.tasks.clear("etl", "1", task_ids={"load"}, only_failed=False, include_downstream=True, dry_run=False)

    assert refs == [
        types.TaskRef(dag_id="etl", dag_run_id="1", task_id="load", map_index=-1),
        types.TaskRef(dag_id="etl", dag_run_id="1", task_id="load", map_index=3),
    ]
    assert airflow.last().body == {
        "dag_run_id": "1",
        "dry_run": False,
        "only_failed": False,
        "include_downstream": True,
        "reset_dag_runs": True,
        "task_ids": ["load"],
    }


def test_clearing_no_task_is_not_taken_for_clearing_all(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    cleared = client.tasks.clear("etl", "1", task_ids=[], only_failed=False, include_downstream=False, dry_run=False)

    assert cleared == []
    assert airflow.requests == []


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_run_that_has_not_ended_is_not_deleted(airflow: ScriptedAirflow, client: AirflowClient, state: str) -> None:
    airflow.runs["etl", "1"] = run_json("etl", "1", state=state)

    with pytest.raises(errors.AirflowConflictError, match=state):
        client.runs.delete("etl", "1")

    assert list(airflow.runs) == [("etl", "1")]


def test_a_run_that_has_ended_is_deleted(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.runs["etl", "1"] = run_json("etl", "1", state="failed")

    client.runs.delete("etl", "1")

    assert airflow.runs == {}


def test_a_log_goes_on_with_its_token_and_shows_the_traceback(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    frame = {"filename": "/dags/etl.py", "lineno": 7, "name": "load"}
    failure = {"exc_type": "KeyError", "exc_value": "'x'", "frames": [frame]}
    airflow.answers["GET", "/dags/etl/dagRuns/1/taskInstances/load/logs/2"] = {
        "content": [
            {"event": "::group::"},
            "a bare line",
            {
                "timestamp": "2026-11-23T12:00:00Z",
                "event": "Task failed",
                "level": "error",
                "error_detail": [failure],
            },
        ],
        "continuation_token": "more",
    }

    log = client.tasks.log("etl", "1", "load", try_number=2, map_index=3, token="here")

    assert log == types.LogChunk(
        lines=(
            types.LogLine(timestamp=None, level=None, text="::group::"),
            types.LogLine(timestamp=None, level=None, text="a bare line"),
            types.LogLine(
                timestamp=NOON,
                level="error",
                text="Task failed\n  File \"/dags/etl.py\", line 7, in load\nKeyError: 'x'",
            ),
        ),
        token="more",
        ended=False,
    )
    assert airflow.last().query == {"map_index": ["3"], "full_content": ["false"], "token": ["here"]}


def test_a_log_without_a_token_has_ended(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["GET", "/dags/etl/dagRuns/1/taskInstances/load/logs/1"] = {
        "content": [],
        "continuation_token": None,
    }

    assert client.tasks.log("etl", "1", "load", try_number=1) == types.LogChunk(lines=(), token=None, ended=True)


def test_warming_up_touches_the_execution_api_without_our_token(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    client.warm_up()

    assert airflow.last().path == "/execution/health"
    assert "Authorization" not in airflow.last().headers
