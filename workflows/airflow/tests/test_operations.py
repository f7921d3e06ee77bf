"""What the client requests from Airflow 3 and how it reads the answers."""

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from workflows.airflow import AirflowClient, errors, types

from .scripted import Handler, Reply, Request, ScriptedAirflow, by_password, paged, run_json, task_json

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RUNS, TASKS = "/dags/~/dagRuns", "/dags/~/dagRuns/~/taskInstances"
# What a task instance can be in Airflow 3.3, apart from running.
STATES = ["awaiting_input", "deferred", "failed", "none", "queued", "removed", "restarting", "scheduled", "skipped"]
STATES += ["success", "up_for_reschedule", "up_for_retry", "upstream_failed"]
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
    "bundle_name": "dags-folder",
    "relative_fileloc": "etl.py",
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
        data_interval=None,
        queued_at=datetime(2026, 11, 23, 6, 39, 35, 254413, tzinfo=UTC),
        start_date=None,
        end_date=None,
        triggered_by="rest_api",
    )


def test_trigger_sends_the_dates_of_the_run(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    date, start, end = (datetime(2026, 3, day, tzinfo=UTC) for day in (3, 1, 2))

    run = client.runs.trigger("etl", dag_run_id="svops__1", conf={}, logical_date=date, data_interval=(start, end))

    assert airflow.last().body == {
        "dag_run_id": "svops__1",
        "conf": {},
        "note": None,
        "logical_date": "2026-03-03T00:00:00+00:00",
        "data_interval_start": "2026-03-01T00:00:00+00:00",
        "data_interval_end": "2026-03-02T00:00:00+00:00",
    }
    assert (run.logical_date, run.data_interval) == (date, (start, end))


@pytest.mark.parametrize("conf", [None, {}, [1], "text", 5])
def test_a_conf_that_no_dag_can_use_is_no_conf(airflow: ScriptedAirflow, client: AirflowClient, conf: object) -> None:
    airflow.runs["etl", "1"] = run_json("etl", "1", conf=conf)

    assert client.runs.get("etl", "1").conf == {}


def test_nothing_is_asked_before_the_first_call(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    assert airflow.requests == []


def test_version_and_token_are_requested_once(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    for number in range(3):
        client.runs.trigger("etl", dag_run_id=f"svops__{number}", conf={})

    assert [request.path for request in airflow.requests][:2] == ["/api/v2/version", "/auth/token"]
    assert len(airflow.requests) == 5


def test_health_is_answered_with_a_wrong_password_too(airflow: ScriptedAirflow) -> None:
    airflow.answers["GET", "/monitor/health"] = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": "2026-11-23T12:00:00+00:00"},
        "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    }
    with AirflowClient(by_password(airflow.url, "admin", "wrong")) as client:
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
        bundle_name="dags-folder",
        relative_fileloc="etl.py",
        parsed_at=None,
        doc_md="# ETL",
        run_timeout=None,
        params={"size": types.DagParam(value=1, schema={"type": "integer"}, description="rows")},
    )


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("PT40S", timedelta(seconds=40)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        (None, None),
        ("40 s", None),
        (f"P{'9' * 30}D", None),
    ],
    ids=str,
)
def test_the_timeout_of_a_dags_runs_is_read(
    airflow: ScriptedAirflow, client: AirflowClient, given: str | None, read: timedelta | None
) -> None:
    airflow.answers["GET", "/dags/etl/details"] = {**ETL_DETAILS, "dag_run_timeout": given}

    assert client.dags.get("etl").run_timeout == read


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"tags": "nightly"}, "DAG: tags should be a list, got str"),
        ({"tags": [None]}, "tag: expected an object, got NoneType"),
        ({"owners": [5]}, "DAG: owners should be a list of strings, got list"),
        ({"description": ["x"]}, "DAG: description should be a string, got list"),
        ({"max_active_runs": float("inf")}, "DAG: max_active_runs should be an integer, got float"),
        ({"max_active_runs": 10**400}, "DAG: max_active_runs should be a smaller number, got int"),
    ],
)
def test_a_listed_dag_that_cannot_be_read_hides_no_other(
    airflow: ScriptedAirflow, client: AirflowClient, damage: dict[str, object], reason: str
) -> None:
    airflow.answers["GET", "/dags"] = paged("dags", [{**ETL_DETAILS, "dag_id": "bad", **damage}, ETL_DETAILS])

    bad, good = client.dags.list()

    assert bad == types.UnreadableDag(dag_id="bad", reason=reason)
    assert good.dag_id == "etl"


STRUCTURE = {
    "nodes": [
        {"id": "make", "type": "task", "setup_teardown_type": "setup"},
        {
            "id": "parts",
            "type": "task",
            "is_mapped": True,
            "children": [{"id": "parts.load", "type": "task", "is_mapped": True}, {"id": "parts.join", "type": "join"}],
        },
        {"id": "drop", "type": "task", "setup_teardown_type": "teardown"},
    ],
    "edges": [],
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            Reply(200, STRUCTURE),
            {"make": ("setup", None), "parts.load": (None, "parts"), "drop": ("teardown", None), "work": (None, None)},
        ),
        (Reply(404, {"detail": "Not Found"}), dict.fromkeys(("make", "parts.load", "drop", "work"), (None, None))),
        (Reply(200, {"nodes": "new"}), dict.fromkeys(("make", "parts.load", "drop", "work"), (None, None))),
    ],
    ids=["given", "not there", "of another shape"],
)
def test_the_places_of_tasks_come_from_the_structure_if_airflow_gives_it(
    airflow: ScriptedAirflow, client: AirflowClient, answer: Reply, expected: dict[str, tuple[str | None, str | None]]
) -> None:
    row = {"downstream_task_ids": [], "operator_name": "@task", "trigger_rule": "all_success", "retries": 0}
    airflow.answers["GET", "/dags/etl/tasks"] = {"tasks": [{**row, "task_id": task_id} for task_id in expected]}
    airflow.pages["GET", "/ui/structure/structure_data"] = lambda request: answer

    tasks = client.dags.tasks("etl")

    assert {task.task_id: (task.role, task.mapped_group) for task in tasks} == expected


def test_single_instances_are_cleared_beside_whole_tasks(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.answers["POST", "/dags/etl/clearTaskInstances"] = {"task_instances": [], "total_entries": 0}

    client.tasks.clear(
        "etl", "1", task_ids=["sum"], instances=[("part", 2), ("part", 1)], only_failed=False, dry_run=False
    )

    assert airflow.requests[-1].body["task_ids"] == ["sum", ["part", 1], ["part", 2]]


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


def feed(rows: list[dict[str, Any]], of_key: str) -> Handler:
    """Return an endpoint that shows those of the rows that have the states that it is asked for."""

    def handle(request: Request) -> Reply:
        shown = [row for row in rows if (row["state"] or "none") in request.query["state"]]
        return paged(of_key, shown)(request)

    return handle


def test_changed_runs_are_those_of_our_dags_with_the_oldest_change_first(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    rows = [
        run_json("etl", "c", state="success", end_date="2026-11-23T12:00:03Z"),
        run_json("etl_2", "b"),
        run_json("etl", "a", start_date="2026-11-23T12:00:01Z", state="failed"),
        run_json("etl", "d", start_date="2026-11-23T12:00:02Z", state="running"),
    ]
    airflow.answers["GET", RUNS] = feed(rows, "dag_runs")
    when = NOON.astimezone(timezone(timedelta(hours=2)))

    runs = client.runs.changed_since(when, dag_ids=["etl", "load"])

    assert [run.dag_run_id for run in runs] == ["a", "d", "c"]


PAGE = {"dag_id_prefix_pattern": ["etl|load"], "limit": ["100"], "offset": ["0"]}


def test_what_runs_is_asked_for_by_its_start_and_the_rest_by_its_change(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    airflow.answers["GET", RUNS] = paged("dag_runs", [])
    airflow.answers["GET", TASKS] = paged("task_instances", [])

    client.runs.changed_since(NOON, dag_ids=["load", "etl"])
    client.tasks.changed_since(NOON, dag_ids=["load", "etl"])

    changed, started = ["2026-11-23T12:00:00+00:00"], ["2026-11-23T11:59:40+00:00"]
    asked = [{name: sorted(values) for name, values in request.query.items()} for request in airflow.requests[-4:]]
    assert asked == [
        {**PAGE, "state": ["failed", "queued", "success"], "updated_at_gte": changed, "order_by": ["-updated_at"]},
        {**PAGE, "state": ["running"], "start_date_gte": started, "order_by": ["-start_date"]},
        {**PAGE, "state": STATES, "updated_at_gte": changed, "order_by": ["-id"]},
        {**PAGE, "state": ["running"], "start_date_gte": started, "order_by": ["-id"]},
    ]


@pytest.mark.parametrize(
    ("version", "knows"), [("3.0.6", False), ("3.2.1", False), ("3.3.2", True), ("3.10.0", True), ("4.0.0b1", True)]
)
def test_airflow_is_asked_only_for_states_and_patterns_that_its_version_knows(
    airflow: ScriptedAirflow, client: AirflowClient, version: str, knows: bool
) -> None:
    airflow.version = version
    airflow.answers["GET", TASKS] = paged("task_instances", [])

    client.tasks.changed_since(NOON, dag_ids=["etl"])

    asked = airflow.requests[-2].query
    assert ("awaiting_input" in asked["state"], "dag_id_prefix_pattern" in asked) == (knows, knows)


def test_an_upgraded_airflow_is_asked_for_its_new_states(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    airflow.version = "3.2.1"
    airflow.answers["GET", TASKS] = paged("task_instances", [])
    client.tasks.changed_since(NOON, dag_ids=["etl"])

    airflow.version = "3.3.2"
    client.version()
    client.tasks.changed_since(NOON, dag_ids=["etl"])

    assert "awaiting_input" in airflow.requests[-2].query["state"]


@pytest.mark.parametrize(("dags", "requests"), [(1, 1), (80, 1), (200, 2), (400, 4), (500, 1)])
def test_the_filter_of_many_dags_takes_several_requests_and_of_very_many_there_is_none(
    airflow: ScriptedAirflow, client: AirflowClient, dags: int, requests: int
) -> None:
    airflow.answers["GET", RUNS] = paged("dag_runs", [])
    dag_ids = [f"the_dag_with_the_number_{number:04}" for number in range(dags)]

    client.runs.changed_since(NOON, dag_ids=dag_ids)

    of_feed = [request.query for request in airflow.requests if request.query.get("order_by") == ["-updated_at"]]
    patterns = [pattern for query in of_feed for pattern in query.get("dag_id_prefix_pattern", [])]
    assert len(of_feed) == requests
    assert all(len(pattern) <= 3000 for pattern in patterns)
    assert [dag_id for pattern in patterns for dag_id in pattern.split("|")] == (dag_ids if dags < 500 else [])


def test_a_moment_without_a_time_zone_is_not_guessed(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    with pytest.raises(ValueError, match="time zone"):
        client.runs.changed_since(NOON.replace(tzinfo=None), dag_ids=["etl"])


@pytest.mark.parametrize("leaving", [1, 5, 30, 99, 120])
def test_runs_that_change_or_leave_between_two_pages_hide_no_others_and_come_once(
    airflow: ScriptedAirflow, client: AirflowClient, leaving: int
) -> None:
    rows = [run_json("etl", f"{number:03}") for number in range(250)]
    left: list[dict[str, Any]] = []

    def changing(request: Request) -> Reply:
        page = feed(rows, "dag_runs")(request)
        if request.query["state"] != ["running"] and not left:
            # They begin to run, and one more changes and moves to the front.
            left.extend(rows[:leaving])
            del rows[:leaving]
            rows.insert(0, rows.pop(rows.index(run_json("etl", "150"))))
        return page

    airflow.answers["GET", RUNS] = changing

    runs = client.runs.changed_since(NOON, dag_ids=["etl"])

    seen = [run.dag_run_id for run in runs]
    # What changed before its page was read is shown by the next poll.
    changed = {"150", *(row["dag_run_id"] for row in left[100:])}
    assert len(seen) == len(set(seen))
    assert set(seen) | changed == {f"{number:03}" for number in range(250)}


@pytest.mark.parametrize("step", [1, 40, 100])
def test_a_feed_of_which_rows_leave_again_and_again_comes_to_an_end(
    airflow: ScriptedAirflow, client: AirflowClient, step: int
) -> None:
    rows = [run_json("etl", str(number)) for number in range(600)]

    def leaving(request: Request) -> Reply:
        page = feed(rows, "dag_runs")(request)
        if request.query["state"] != ["running"]:
            del rows[:step]
        return page

    airflow.answers["GET", RUNS] = leaving

    client.runs.changed_since(NOON, dag_ids=["etl"])

    assert len(airflow.requests) < 40


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


def test_without_dags_there_are_no_runs_and_no_request_is_sent(airflow: ScriptedAirflow, client: AirflowClient) -> None:
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


def test_a_run_id_that_two_dags_share_gives_only_the_tasks_of_the_requested_dag(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    rows = [task_json(dag_id, run_id, "t") for dag_id in ("etl", "load") for run_id in ("1", "2")]
    airflow.answers["POST", f"{TASKS}/list"] = paged("task_instances", rows)

    tasks = client.tasks.list(dag_run_ids={"etl": ["1"], "load": ["2"]})

    assert [(task.dag_id, task.dag_run_id) for task in tasks] == [("etl", "1"), ("load", "2")]


def test_changed_tasks_come_in_the_order_of_their_own_times(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    third = {"queued_when": "2026-11-23T12:00:01Z", "start_date": "2026-11-23T12:00:03Z", "state": "running"}
    rows = [
        task_json("etl", "1", "third", **third),
        task_json("other", "1", "not ours"),
        task_json("etl", "1", "second", start_date="2026-11-23T12:00:00Z", end_date="2026-11-23T12:00:02Z"),
        task_json("etl", "1", "first"),
    ]
    airflow.answers["GET", TASKS] = feed(rows, "task_instances")

    tasks = client.tasks.changed_since(NOON, dag_ids=["etl"])

    assert [task.task_id for task in tasks] == ["first", "second", "third"]


def test_a_task_that_starts_between_the_two_feeds_is_shown_once_as_it_is_now(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    def starting(request: Request) -> Reply:
        state = "running" if request.query["state"] == ["running"] else "queued"
        return paged("task_instances", [task_json("etl", "1", "load", id="7", state=state)])(request)

    airflow.answers["GET", TASKS] = starting

    assert [task.state for task in client.tasks.changed_since(NOON, dag_ids=["etl"])] == ["running"]


def test_the_audit_log_says_which_tasks_began_to_run(airflow: ScriptedAirflow, client: AirflowClient) -> None:
    entry = {"event": "running", "dag_id": "etl", "run_id": "1", "task_id": "load"}
    without_run = {**entry, "run_id": None}
    airflow.answers["GET", "/eventLogs"] = paged(
        "event_logs", [{**entry, "map_index": -1}, {**entry, "map_index": 3}, {**entry, "map_index": None}, without_run]
    )

    begun = client.tasks.begun_since(NOON)

    load = partial(types.TaskRef, dag_id="etl", dag_run_id="1", task_id="load")
    assert begun == {load(map_index=-1), load(map_index=3)}
    assert airflow.last().query["after"] == ["2026-11-23T12:00:00+00:00"]


def test_of_several_task_instances_those_that_run_are_read_together(
    airflow: ScriptedAirflow, client: AirflowClient
) -> None:
    rows = [task_json("etl", run_id, "load", map_index=index) for run_id in ("1", "2") for index in (0, 1)]
    airflow.answers["POST", f"{TASKS}/list"] = paged("task_instances", rows)
    wanted = {
        types.TaskRef(dag_id="etl", dag_run_id=run_id, task_id="load", map_index=index)
        for run_id, index in (("1", 0), ("2", 1))
    }

    assert {task.ref for task in client.tasks.running(wanted)} == wanted
    asked = airflow.last().body
    assert (asked["state"], asked["task_ids"], asked["dag_run_ids"]) == (["running"], ["load"], ["1", "2"])


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
