"""A staged Airflow and the small vocabulary of the tests: runs, observations, events as words."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.models import User
from workflows.airflow import types
from workflows.airflow.tests.scripted import Reply, Request, ScriptedAirflow, paged, run_json, task_json
from workflows.models import Event, Run, Workflow
from workflows.states import RunState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_order = itertools.count()
AIRFLOWS_WORDS = {"::group::Pre Execute", "::group::Post Execute", "::endgroup::", "Task killed!"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rows": {"type": "integer", "minimum": 1, "maximum": 1000},
        "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
        "table": {"type": ["null", "string"]},
    },
    "required": ["rows"],
}


def dag_task(task_id: str, *downstream: str) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "downstream_task_ids": sorted(downstream),
        "operator": "PythonOperator",
        "trigger_rule": "all_success",
        "retries": 0,
        "is_mapped": False,
        "pool": "default_pool",
    }


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def iso(seconds: float | None) -> str | None:
    return None if seconds is None else at(seconds).isoformat()


def new_run(workflow: Workflow, state: RunState = RunState.QUEUED, *, user: User | None = None, **fields: Any) -> Run:
    """Create a run as its dispatch leaves it. A pending one is unknown to Airflow. Each is newer than the last."""
    run = run_of(workflow, state, user=user, **fields)
    run.save(force_insert=True)
    return run


def conf_of_ours(run: Run, task: int | str | None, dataset: int | str | None) -> dict[str, Any]:
    """Return what a DAG finds under `svops` in its conf."""
    names = {"task_id": task, "dataset_id": dataset, "caller_task_ref": task, "caller_dataset_ref": dataset}
    return {**names, "run_id": str(run.pk), "workflow_id": run.workflow_id}


def run_of(workflow: Workflow, state: RunState = RunState.QUEUED, *, user: User | None = None, **fields: Any) -> Run:
    """Return such a run that is not saved."""
    run_id = uuid.uuid4()
    known: dict[str, Any] = {"dag_run_id": f"svops__{run_id}"}
    if state != RunState.PENDING:
        known["queued_at"] = NOW
    return Run(
        id=run_id,
        workflow=workflow,
        airflow_id=workflow.dag.airflow_name,
        dag_id=workflow.dag.dag_id,
        state=state,
        user=user or workflow.owner,
        created_at=NOW + timedelta(microseconds=next(_order)),
        **known | fields,
    )


def dag_run(run: Run, state: str, *, start: float | None = None, end: float | None = None) -> types.DagRun:
    """Return what Airflow would answer about `run`; times are in seconds after NOW."""
    fields = run_json(run.dag_id, run.dag_run_id, state=state, start_date=iso(start), end_date=iso(end))
    return types.DagRun.parse(fields | {"queued_at": iso(0)})


def task(
    run: Run,
    task_id: str,
    state: str | None,
    *,
    tries: int = 1,
    start: float | None = None,
    end: float | None = None,
    index: int = -1,
    id: str | None = None,
) -> types.TaskInstance:
    """Return what Airflow would answer about a task instance of `run`; times are in seconds after NOW."""
    duration = end - start if start is not None and end is not None else None
    times = {"start_date": iso(start), "end_date": iso(end), "duration": duration, "id": id}
    fields = task_json(run.dag_id, run.dag_run_id, task_id, state=state, try_number=tries, map_index=index)
    return types.TaskInstance.parse(fields | times)


def story(run: Run) -> list[str]:
    """Return the run's events in order, in words: `workflow.started`, `task.failed extract 1`, `task.started t[2] 1`"""
    return [_word(event) for event in run.events.order_by("seq")]


def _word(event: Event) -> str:
    if not event.task_id:
        change = event.data.get("change")
        return f"{event.type} {change}" if change else event.type
    index = event.data["map_index"]
    name = event.task_id if index < 0 else f"{event.task_id}[{index}]"
    return f"{event.type} {name} {event.data['try_number']}"


def log() -> list[str]:
    """Return the types of all events in the order of their position."""
    return list(Event.objects.filter(position__isnull=False).order_by("position").values_list("type", flat=True))


class StagedAirflow(ScriptedAirflow):
    """An Airflow with one DAG, `etl`. Its feeds show every run and task that is not `hidden`.

    `begun` are the entries of its audit log about tasks that began to run. With `by_start` the feeds show what runs
    only if it has begun lately.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[tuple[str, str, str, int], dict[str, Any]] = {}
        self.xcoms: dict[tuple[str, str, str, int], Any] = {}
        self.logs: dict[tuple[str, str, str, int, int], list[dict[str, Any]]] = {}
        self.hidden: set[tuple[str, str]] = set()
        self.cleared: list[dict[str, Any]] = []
        self.marked: list[tuple[str, str]] = []
        self.dags = {"etl": dag_json("etl")}
        self.import_errors: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.begun: list[dict[str, Any]] = []
        self.by_start = False

    def put(self, run: Run, state: str, *, start: float | None = None, end: float | None = None) -> None:
        """Let Airflow have `run` in this state."""
        times = {"start_date": iso(start), "end_date": iso(end), "queued_at": iso(0)}
        self.runs[run.dag_id, run.dag_run_id] = run_json(run.dag_id, run.dag_run_id, state=state, **times)

    def put_task(
        self,
        run: Run,
        task_id: str,
        state: str | None,
        *,
        tries: int = 1,
        start: float | None = None,
        end: float | None = None,
        index: int = -1,
        id: str | None = None,
    ) -> None:
        """Let Airflow have this task instance of `run`."""
        times = {"start_date": iso(start), "end_date": iso(end), "id": id}
        self.tasks[run.dag_id, run.dag_run_id, task_id, index] = task_json(
            run.dag_id, run.dag_run_id, task_id, state=state, try_number=tries, map_index=index, **times
        )

    def put_log(self, run: Run, task_id: str, *texts: str, tries: int = 1, index: int = -1) -> None:
        """Let Airflow have this log of a task. Airflow's own words come from its own logger."""
        self.logs[run.dag_id, run.dag_run_id, task_id, index, tries] = [
            {"event": text, "level": "info", "logger": "task" if text in AIRFLOWS_WORDS else "etl"} for text in texts
        ]

    def put_result(self, run: Run, task_id: str, value: Any, *, index: int = -1) -> None:
        """Let Airflow have this return value of a task."""
        self.xcoms[run.dag_id, run.dag_run_id, task_id, index] = value

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Return the calls so far that change something in Airflow."""
        return [call for call in self.calls if call[0] in {"POST", "PATCH"} and not call[1].endswith("/list")]

    def _do(self, request: Request, path: str) -> Reply:  # noqa: C901 - a table of endpoints
        if (request.method, path) in self.answers:
            return super()._do(request, path)
        match request.method, path.strip("/").split("/"):
            case "GET", ["dags"]:
                asked = request.query.get("paused", ["true", "false"])
                listed = [dag["listed"] for dag in self.dags.values()]
                return paged("dags", [dag for dag in listed if str(dag["is_paused"]).lower() in asked])(request)
            case "GET", ["importErrors"]:
                return paged("import_errors", self.import_errors)(request)
            case "GET", ["dags", dag_id, "details"]:
                return Reply(200, self.dags[dag_id]["details"])
            case "GET", ["dags", dag_id, "tasks"]:
                return Reply(200, {"tasks": self.dags[dag_id]["tasks"]})
            case "GET", ["dags", "~", "dagVersions"]:
                return paged("dag_versions", self.versions[::-1])(request)
            case "GET", ["dags", "~", "dagRuns"]:
                return paged("dag_runs", self._visible(self.runs, request))(request)
            case "GET", ["dags", "~", "dagRuns", "~", "taskInstances"]:
                return paged("task_instances", self._visible(self.tasks, request))(request)
            case "GET", ["eventLogs"]:
                return paged("event_logs", self.begun)(request)
            case "GET", ["dags", dag_id, "dagRuns", run_id, "taskInstances"]:
                return paged("task_instances", self._tasks_of({(dag_id, run_id)}))(request)
            case "GET", ["dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, *index] if len(index) < 2:
                return self._task(dag_id, run_id, task_id, int(index[0]) if index else -1)
            case "GET", ["dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "logs", tries]:
                return self._log((dag_id, run_id, task_id, int(request.query["map_index"][0]), int(tries)))
            case "GET", ["dags", dag_id, "dagRuns", run_id, "taskInstances", task_id, "xcomEntries", key]:
                return self._xcom((dag_id, run_id, task_id, int(request.query["map_index"][0])), key)
            case "POST", ["dags", "~", "dagRuns", "list"]:
                return paged("dag_runs", self._listed(request.body))(request)
            case "POST", ["dags", "~", "dagRuns", "~", "taskInstances", "list"]:
                wanted = {(d, r) for d in request.body["dag_ids"] for r in request.body["dag_run_ids"]}
                states = request.body.get("state")
                rows = [row for row in self._tasks_of(wanted) if not states or row["state"] in states]
                return paged("task_instances", rows)(request)
            case "PATCH", ["dags", dag_id, "dagRuns", run_id]:
                return self._mark(dag_id, run_id, request.body["state"])
            case "POST", ["dags", dag_id, "clearTaskInstances"]:
                return self._clear(dag_id, request.body)
            case "POST", ["dags", dag_id, "dagRuns"] if dag_id not in self.dags:
                return Reply(404, {"detail": f"DAG with dag_id: '{dag_id}' not found"})
        return super()._do(request, path)

    def _visible(self, rows: Mapping[tuple[Any, ...], dict[str, Any]], request: Request) -> list[dict[str, Any]]:
        states, since = request.query["state"], request.query.get("start_date_gte", [""])[0]
        return [
            row
            for key, row in rows.items()
            if key[:2] not in self.hidden
            and (row["state"] or "none") in states
            and (not self.by_start or (row["start_date"] or "") >= since)
        ]

    def _tasks_of(self, keys: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        wanted = set(keys)
        return [row for key, row in self.tasks.items() if key[:2] in wanted]

    def _task(self, dag_id: str, run_id: str, task_id: str, index: int) -> Reply:
        row = self.tasks.get((dag_id, run_id, task_id, index))
        return Reply(200, row) if row else Reply(404, {"detail": "Task instance not found"})

    def _log(self, key: tuple[str, str, str, int, int]) -> Reply:
        if key not in self.logs:
            return Reply(404, {"detail": "TaskInstance not found"})
        return Reply(200, b"".join(json.dumps(line).encode() + b"\n" for line in self.logs[key]))

    def _xcom(self, at: tuple[str, str, str, int], key: str) -> Reply:
        if key != "return_value" or at not in self.xcoms:
            return Reply(404, {"detail": f"XCom entry with key: `{key}` not found"})
        return Reply(200, {"key": key, "task_id": at[2], "map_index": at[3], "value": self.xcoms[at]})

    def _listed(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        states = body.get("states")
        return [
            row
            for row in self.runs.values()
            if row["dag_id"] in body["dag_ids"] and (not states or row["state"] in states) and _in_window(row, body)
        ]

    def _mark(self, dag_id: str, run_id: str, state: str) -> Reply:
        """End a run as Airflow does: running tasks fail, tasks that have not started are skipped."""
        if (dag_id, run_id) not in self.runs:
            return Reply(404, {"detail": f"The DagRun `{run_id}` was not found"})
        self.marked.append((run_id, state))
        run = self.runs[dag_id, run_id]
        run |= {"state": state, "end_date": run["end_date"] or iso(100)}
        for row in self._tasks_of({(dag_id, run_id)}):
            if row["state"] == "running":
                row |= {"state": "failed", "end_date": iso(100)}
            elif row["state"] not in {"success", "failed", "skipped", "upstream_failed"}:
                row |= {"state": "skipped", "start_date": iso(100), "end_date": iso(100)}
        return Reply(200, run)

    def _clear(self, dag_id: str, body: Mapping[str, Any]) -> Reply:
        key = (dag_id, body["dag_run_id"])
        if key not in self.runs:
            return Reply(404, {"detail": "Dag Run not found"})
        failed = {"failed", "upstream_failed"}
        rows = [
            row
            for row in self._tasks_of({key})
            if (not body["only_failed"] or row["state"] in failed)
            and ("task_ids" not in body or _is_named(row, body["task_ids"]))
        ]
        answer = {"task_instances": [dict(row) for row in rows], "total_entries": len(rows)}
        if not body["dry_run"]:
            self.cleared.append(dict(body))
            for row in rows:
                row["state"] = None
            if rows:
                self.runs[key] |= {"state": "queued", "start_date": None, "end_date": None}
        return Reply(200, answer)


def _in_window(row: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Return whether the run is in the time that is asked for. One without another `run_after` was due at NOW."""
    times = {"start_date": row["start_date"], "run_after": row.get("run_after", iso(0))}
    for name, shown in times.items():
        if f"{name}_gte" not in body:
            continue
        first, last = (datetime.fromisoformat(body[f"{name}_{end}"]) for end in ("gte", "lte"))
        if not shown or not first <= datetime.fromisoformat(shown) <= last:
            return False
    return True


def _is_named(row: Mapping[str, Any], named: list[str | list[Any]]) -> bool:
    """Return whether a clear names the task, or this instance of it."""
    return row["task_id"] in named or [row["task_id"], row["map_index"]] in named


def dag_json(dag_id: str) -> dict[str, Any]:
    listed = {
        "dag_id": dag_id,
        "description": "Loads a table",
        "is_paused": False,
        "is_stale": False,
        "tags": [{"name": "nightly", "dag_id": dag_id}],
        "owners": ["airflow"],
        "timetable_summary": None,
        "max_active_runs": 16,
        "fileloc": f"/opt/dags/{dag_id}.py",
        "bundle_name": "dags-folder",
        "relative_fileloc": f"{dag_id}.py",
    }
    params = {
        "rows": {"value": None, "schema": SCHEMA["properties"]["rows"], "description": "How many"},
        "mode": {"value": "fast", "schema": {"type": "string", "enum": ["fast", "slow"]}, "description": None},
        "table": {"value": None, "schema": {"type": ["null", "string"]}, "description": None},
    }
    tasks = [
        {**dag_task(name, *after), "operator_name": "PythonOperator"}
        for name, *after in (("extract", "transform"), ("transform", "load"), ("load",))
    ]
    return {"listed": listed, "details": {**listed, "doc_md": "# ETL", "params": params}, "tasks": tasks}
