"""A stand-in of the platform, in memory, for the tests of programs that use the client.

The client is the real one; only what answers it is not. Each workflow has a script of how its runs end.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx

from svops_client.aio import AsyncClient
from svops_client.client import Client
from svops_client.models import TERMINAL

URL = "http://svops.invalid"
ENDS = {"success": "workflow.completed", "failed": "workflow.failed", "stopped": "workflow.stopped"}
TASK_EVENTS = {"success": "task.completed", "failed": "task.failed"}
Json = dict[str, Any]
NOBODY_RESULT = {"state": "none", "task_id": "", "value": None, "size": None, "reason": "", "reference": ""}


@dataclass(frozen=True)
class Outcome:
    """How runs end: `state` None hangs until `StandIn.finish` or a stop."""

    state: str | None = "success"
    failing: str = ""
    reason: str = ""
    result: Any = None


@dataclass
class StandInWorkflow:
    """A workflow, and what happens to its runs from now on: they complete, unless the script says otherwise."""

    id: int
    name: str
    tasks: Sequence[str]
    schema: Mapping[str, Any]
    default_parameters: Mapping[str, Any]
    outcome: Outcome = Outcome()
    logs: dict[str, list[str]] = field(default_factory=dict)
    refusal: Mapping[str, Sequence[str]] | None = None

    def completes(self, result: Any = None) -> StandInWorkflow:
        """Its runs succeed, with this result."""
        self.outcome = Outcome(result=result)
        return self

    def fails(self, task: str | None = None, reason: str = "") -> StandInWorkflow:
        """Its runs fail in this task, by default in the last one. The tasks after it do not run."""
        failing = task or self.tasks[-1]
        if failing not in self.tasks:
            raise ValueError(f"{self.name!r} has no task {failing!r}, but {', '.join(self.tasks)}.")
        self.outcome = Outcome("failed", failing, reason or f"failed in Airflow: {failing}")
        return self

    def hangs(self) -> StandInWorkflow:
        """Its runs start and go on, until `StandIn.finish` or a stop."""
        self.outcome = Outcome(None)
        return self

    def logs_as(self, task: str, *lines: str) -> StandInWorkflow:
        """The log of this task has these lines."""
        self.logs[task] = list(lines)
        return self

    def refuses(self, **errors: str) -> StandInWorkflow:
        """Triggers are refused, with these messages for parameters."""
        self.refusal = {f"parameters.{name}": [message] for name, message in errors.items()} or None
        return self


class Refused(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"code": code, "detail": detail, "request_id": "stand-in", **more}


class StandIn:
    """The platform. `client` and `async_client` ask it; `triggered` are the runs that they have started."""

    def __init__(self) -> None:
        self.workflows: dict[int, StandInWorkflow] = {}
        self.runs: dict[str, Json] = {}
        self.log: list[Json] = []
        self.requests: list[httpx.Request] = []
        self._tasks: dict[str, dict[str, Json]] = {}
        self._keys: dict[str, str] = {}
        self._refusals: list[Refused] = []
        self._lock = threading.RLock()
        self._now = datetime.now(timezone.utc).replace(microsecond=0)
        transport = httpx.MockTransport(self._answer)
        options: Json = {"api_key": "stand-in", "live": False, "poll_pause": 0.01, "retry_for": 0.0}
        self.client = Client(URL, transport=transport, **options)
        self.async_client = AsyncClient(URL, transport=transport, **options)

    # --- What a test says and asks ---

    def workflow(
        self,
        name: str,
        *,
        tasks: Sequence[str] = ("work",),
        schema: Mapping[str, Any] | None = None,
        default_parameters: Mapping[str, Any] | None = None,
    ) -> StandInWorkflow:
        """Add a workflow."""
        made = StandInWorkflow(len(self.workflows) + 1, name, tuple(tasks), schema or {}, default_parameters or {})
        self.workflows[made.id] = made
        return made

    @property
    def triggered(self) -> list[Json]:
        """The runs so far, as the API shows them: `parameters`, `note`, `task_id` and so on."""
        return list(self.runs.values())

    def finish(self, run_id: str, state: str = "success", *, reason: str = "", result: Any = None) -> None:
        """Let a run end that hangs."""
        with self._lock:
            failing = self._workflow_of(run_id).tasks[-1] if state == "failed" else ""
            self._end(run_id, Outcome(state, failing, reason, result))

    def refuse_next(self, status: int, code: str = "refused", detail: str = "Refused.", **more: Any) -> None:
        """Answer the next request with this error."""
        self._refusals.append(Refused(status, code, detail, **more))

    def record(self, run_id: str, kind: str, task: str | None = None, /, **data: Any) -> None:
        """Append an event of your own to the log."""
        run = self.runs[run_id]
        self._now += timedelta(seconds=1)
        seq = 1 + sum(event["run_id"] == run_id for event in self.log)
        envelope = {"id": len(self.log) + 1, "seq": seq, "type": kind, "workflow_id": run["workflow_id"]}
        whose = {"run_id": run_id, "task_id": task, "user_id": 1, "timestamp": self._time()}
        self.log.append({**envelope, **whose, "data": data})

    # --- The life of a run ---

    def _begin(self, run_id: str) -> None:
        run, workflow = self.runs[run_id], self._workflow_of(run_id)
        run |= {"state": "running", "started_at": self._time(), "ended_at": None, "state_reason": ""}
        self.record(run_id, "workflow.started", **self._of_run(run), started_at=self._time())
        self._tasks[run_id] = {}
        if workflow.outcome.state is None:
            self._start(run_id, workflow.tasks[0])
        else:
            self._end(run_id, workflow.outcome)

    def _start(self, run_id: str, task: str) -> None:
        self._tasks[run_id].setdefault(task, {"state": "running", "started_at": self._time(), "ended_at": None})
        self.record(run_id, "task.started", task, **self._of_task("running"), started_at=self._time())

    def _end(self, run_id: str, outcome: Outcome) -> None:
        run, state = self.runs[run_id], str(outcome.state)
        for task in self._workflow_of(run_id).tasks if state != "stopped" else ():
            if self._end_task(run_id, task, "failed" if task == outcome.failing else "success") == "failed":
                break
        run |= {"state": state, "state_reason": outcome.reason, "ended_at": self._time(), "duration_s": 1.0}
        run["result"] = NOBODY_RESULT
        if outcome.result is not None:
            size = len(json.dumps(outcome.result))
            run["result"] = {**NOBODY_RESULT, "state": "ready", "value": outcome.result, "size": size}
        failed: Json = {"reason": outcome.reason, "failed_tasks": [outcome.failing] if outcome.failing else []}
        more = {
            "success": {"duration_s": 1.0, "result": run["result"] if outcome.result is not None else None},
            "failed": {**failed, "duration_s": 1.0},
            "stopped": {"by": "tests", "note": "", "reason": outcome.reason},
        }
        self.record(run_id, ENDS[state], **self._of_run(run), **more[state])

    def _end_task(self, run_id: str, task: str, state: str) -> str:
        if task not in self._tasks[run_id]:
            self._start(run_id, task)
        self._tasks[run_id][task] |= {"state": state, "ended_at": self._time()}
        self.record(run_id, TASK_EVENTS[state], task, **self._of_task(state), duration_s=1.0)
        return state

    def _of_run(self, run: Json) -> Json:
        return {"state": run["state"], "attempt": run["attempt"], "airflow": "default"}

    def _of_task(self, state: str) -> Json:
        return {"state": state, "map_index": -1, "try_number": 1, "instance_id": None}

    def _time(self) -> str:
        return self._now.isoformat().replace("+00:00", "Z")

    def _workflow_of(self, run_id: str) -> StandInWorkflow:
        return self.workflows[self.runs[run_id]["workflow_id"]]

    # --- The API ---

    def _answer(self, request: httpx.Request) -> httpx.Response:
        with self._lock:
            self.requests.append(request)
            try:
                if self._refusals:
                    raise self._refusals.pop(0)
                return self._do(request)
            except Refused as exc:
                return httpx.Response(exc.status, json=exc.body)

    def _do(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/")
        for method, pattern, answer in self._routes():
            if method == request.method and (found := re.fullmatch(pattern, path)):
                status, body = answer(request, *found.groups())
                return httpx.Response(status, json=body)
        raise Refused(404, "not_found", f"The stand-in has no {request.method} /{path}.")

    def _routes(self) -> Iterable[tuple[str, str, Callable[..., tuple[int, Any]]]]:
        run = r"workflows/(\d+)/runs/([0-9a-f-]{36})"
        return (
            ("GET", "auth/me", lambda _: (200, self._me())),
            ("GET", "workflows", self._list_workflows),
            ("GET", r"workflows/(\d+)", lambda _, pk: (200, self._shown(self._known(pk)))),
            ("GET", r"dags/([\w.-]+)", self._dag),
            ("POST", r"workflows/(\d+)/runs", self._trigger),
            ("POST", r"workflows/(\d+)/runs/validate", self._validate),
            ("GET", "runs", lambda asked: self._list_runs(asked, None)),
            ("GET", r"workflows/(\d+)/runs", self._list_runs),
            ("GET", "events", self._events),
            ("POST", "tickets", self._ticket),
            ("GET", run, lambda _, pk, run_id: (200, self._run(pk, run_id))),
            ("GET", f"{run}/tasks", self._list_tasks),
            ("GET", f"{run}/events", self._run_events),
            ("GET", f"{run}/result", lambda _, pk, run_id: (200, self._run(pk, run_id)["result"])),
            ("GET", f"{run}/explain", self._explain),
            ("GET", rf"{run}/tasks/([\w.-]+)/logs", self._logs),
            ("POST", f"{run}/control", self._control),
        )

    def _me(self) -> Json:
        who = {"id": 1, "username": "tests", "email": "", "name": "", "role": "user"}
        return {**who, "scopes": ["run:control", "run:trigger", "workflow:read"]}

    def _known(self, pk: str) -> StandInWorkflow:
        if int(pk) not in self.workflows:
            raise Refused(404, "not_found", f"The stand-in has no workflow {pk}.")
        return self.workflows[int(pk)]

    def _shown(self, workflow: StandInWorkflow) -> Json:
        return {
            "id": workflow.id, "name": workflow.name, "description": "", "airflow": "default",
            "dag_id": f"dag_{workflow.id}", "owner_id": 1, "owner": "tests", "is_active": True, "is_paused": False,
            "default_parameters": dict(workflow.default_parameters), "visibility": "internal", "hindrance": "",
            "adopts_airflow_runs": False, "result_task": "", "created_at": self._time(), "updated_at": self._time(),
        }  # fmt: skip

    def _dag(self, request: httpx.Request, dag_id: str) -> tuple[int, Json]:
        workflow = self._known(dag_id.rpartition("_")[2])
        tasks = [{"task_id": task} for task in workflow.tasks]
        return 200, {"dag_id": dag_id, "params_schema": dict(workflow.schema), "tasks": tasks}

    def _list_workflows(self, request: httpx.Request) -> tuple[int, Json]:
        search = request.url.params.get("search", "").lower()
        return _page([self._shown(one) for one in self.workflows.values() if search in one.name.lower()])

    def _validate(self, request: httpx.Request, pk: str) -> tuple[int, Json]:
        workflow = self._known(pk)
        given = json.loads(request.content).get("parameters") or {}
        parameters = {**workflow.default_parameters, **given}
        missing = [name for name in workflow.schema.get("required", ()) if name not in parameters]
        errors = workflow.refusal or {f"parameters.{name}": ["is required"] for name in missing}
        if errors:
            raise Refused(400, "invalid", "The parameters do not fit the DAG.", errors=errors)
        return 200, {"parameters": parameters}

    def _trigger(self, request: httpx.Request, pk: str) -> tuple[int, Json]:
        key = request.headers.get("Idempotency-Key", uuid.uuid4().hex)
        if key in self._keys:
            return 201, self.runs[self._keys[key]]
        parameters = self._validate(request, pk)[1]["parameters"]
        body, workflow, run_id = json.loads(request.content), self._known(pk), str(uuid.uuid4())
        names = {"id": run_id, "workflow_id": workflow.id, "workflow_name": workflow.name, "airflow": "default"}
        given = {name: body.get(name) for name in ("task_id", "dataset_id", "run_at", "logical_date", "data_interval")}
        references = {"caller_task_ref": body.get("task_id"), "caller_dataset_ref": body.get("dataset_id")}
        who = {"trigger_type": "api", "user_id": 1, "username": "tests", "note": body.get("note", "")}
        times = dict.fromkeys(("started_at", "ended_at", "duration_s"))
        now = dict.fromkeys(("created_at", "queued_at", "observed_at"), self._time())
        state = {"state": "queued", "state_reason": "", "paused": False, "pausing": False, "stale": False}
        dag = {"dag_id": f"dag_{workflow.id}", "dag_run_id": f"svops__{run_id}"}
        more = {"parameters": parameters, "attempt": 1, "attempts": [], "result": NOBODY_RESULT}
        self.runs[run_id] = {**names, **dag, **given, **references, **who, **times, **now, **state, **more}
        self._keys[key] = run_id
        run = self.runs[run_id]
        told = {name: run[name] for name in ("dag_id", "dag_run_id", "trigger_type", "note", "task_id", "dataset_id")}
        self.record(run_id, "workflow.triggered", **self._of_run(run), **told, **references)
        answer = dict(run)
        self._begin(run_id)
        return 201, answer

    def _run(self, pk: str, run_id: str) -> Json:
        run = self.runs.get(run_id)
        if run is None or run["workflow_id"] != int(pk):
            raise Refused(404, "not_found", f"The stand-in has no run {run_id}.")
        return run

    def _list_runs(self, request: httpx.Request, pk: str | None) -> tuple[int, Json]:
        states, of = request.url.params.get_list("state"), pk or request.url.params.get("workflow")
        found = [run for run in self.runs.values() if not of or run["workflow_id"] == int(of)]
        return _page([run for run in reversed(found) if not states or run["state"] in states])

    def _list_tasks(self, request: httpx.Request, pk: str, run_id: str) -> tuple[int, Json]:
        self._run(pk, run_id)
        known: Json = {
            "map_index": -1,
            "try_number": 1,
            "max_tries": 0,
            "operator": "PythonOperator",
            "duration_s": 1.0,
        }
        more = {"instance_id": None, "question": None, "observed_at": self._time(), "stale": False}
        return _page([{"task_id": task, **known, **more, **row} for task, row in self._tasks[run_id].items()])

    def _run_events(self, request: httpx.Request, pk: str, run_id: str) -> tuple[int, Json]:
        self._run(pk, run_id)
        return _page([event for event in self.log if event["run_id"] == run_id])

    def _events(self, request: httpx.Request) -> tuple[int, Json]:
        asked = request.url.params
        limit, types = int(asked.get("limit", 200)), asked.get_list("type")
        if "run" in asked and asked["run"] not in self.runs:
            raise Refused(404, "not_found", f"The stand-in has no run {asked['run']}.")
        found = [
            event
            for event in self.log[int(asked.get("after", 0)) :]
            if asked.get("run") in (None, event["run_id"])
            and asked.get("workflow") in (None, str(event["workflow_id"]))
            and (not types or event["type"] in types)
        ][:limit]
        cursor = found[-1]["id"] if len(found) == limit else len(self.log)
        return 200, {"cursor": cursor, "results": found}

    def _explain(self, request: httpx.Request, pk: str, run_id: str) -> tuple[int, Json]:
        run = self._run(pk, run_id)
        reason = {"code": run["state"], "reason": run["state_reason"], "who": "nobody", "action": ""}
        return 200, {"state": run["state"], "reasons": [reason] if run["state_reason"] else []}

    def _logs(self, request: httpx.Request, pk: str, run_id: str, task: str) -> tuple[int, Json]:
        run = self._run(pk, run_id)
        if task not in self._tasks[run_id]:
            raise Refused(404, "not_found", f"The task {task} has not begun.")
        texts = self._workflow_of(run_id).logs.get(task, [])
        begin = int(request.url.params.get("cursor", 0))
        if tail := request.url.params.get("tail"):
            begin = max(begin, len(texts) - int(tail))
        common = {"timestamp": self._time(), "level": "info", "is_cut": False}
        lines = [{**common, "text": text} for text in texts[begin:]]
        about: Json = {"task_id": task, "map_index": -1, "try_number": 1, "state": self._tasks[run_id][task]["state"]}
        ended = run["state"] in TERMINAL
        return 200, {**about, "lines": lines, "cursor": str(len(texts)), "has_more": False, "ended": ended}

    def _ticket(self, request: httpx.Request) -> tuple[int, Json]:
        body = json.loads(request.content)
        ends_at = (self._now + timedelta(seconds=body["ttl"])).isoformat()
        known = {"id": 1, "workflow_id": self.runs[body["run_id"]]["workflow_id"], "created_at": self._time()}
        return 201, {**body, **known, "expires_at": ends_at, "ticket": "stand-in"}

    def _control(self, request: httpx.Request, pk: str, run_id: str) -> tuple[int, Json]:
        run, body = self._run(pk, run_id), json.loads(request.content)
        action, has_ended = body["action"], run["state"] in TERMINAL
        if (action == "retry") != has_ended:
            detail = f"A run that is {run['state']} cannot do this: {action}."
            raise Refused(409, "wrong_state", detail, state=run["state"], paused=run["paused"])
        if body.get("dry_run"):
            return 200, {"would_run": [{"task_id": task, "map_index": -1} for task in self._tasks[run_id]]}
        if action == "stop":
            self._end(run_id, Outcome("stopped", reason=body.get("note", "")))
        elif action == "retry":
            run |= {"attempt": run["attempt"] + 1, "state": "queued"}
            told = {"mode": body.get("mode", "failed"), "note": body.get("note", ""), "by": "tests"}
            self.record(run_id, "workflow.retried", **self._of_run(run), **told)
            self._begin(run_id)
        else:
            run["paused"] = action == "pause"
        return 200, run


def _page(rows: list[Any]) -> tuple[int, Json]:
    return 200, {"count": len(rows), "next": None, "previous": None, "results": rows}
