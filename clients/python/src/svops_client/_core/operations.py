"""The operations of the API, each as one generator."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote

from svops_client._core import backoff
from svops_client._core.effects import Emit, Op, Wait, collected, without_items
from svops_client._core.follow import follow, patiently, read_log, require_time
from svops_client._core.http import Query, call, pages, text
from svops_client._core.reader import Reader, Wanted
from svops_client.decoding import decode
from svops_client.errors import AmbiguousNameError, NotFoundError, TransportError
from svops_client.models import (
    TERMINAL,
    Explanation,
    LogLine,
    Me,
    Result,
    RunInfo,
    TaskInfo,
    TaskRef,
    Ticket,
    WorkflowInfo,
)

if TYPE_CHECKING:
    from svops_client._core.platform import Platform

T = TypeVar("T")
Action = Literal["stop", "retry", "pause", "resume"]
Parameters = Mapping[str, Any]
LOG_PAUSE = 1.0
RESULT_PAUSE = 1.0
LOST_ANSWERS = 8


@dataclass(frozen=True)
class RunRef:
    """A run by its id, and its workflow, below which its paths are."""

    id: str
    workflow_id: int

    @property
    def path(self) -> str:
        return f"/api/v1/workflows/{self.workflow_id}/runs/{self.id}"


def get(platform: Platform, path: str, make: Callable[[Any], T], **query: Any) -> Op[T]:
    return make((yield from call(platform, "GET", path, query=query)).json)


def me(platform: Platform) -> Op[Me]:
    return (yield from get(platform, "/api/v1/auth/me", lambda raw: decode(Me, raw)))


# --- Workflows ------------------------------------------------------------------------------------


@dataclass
class WorkflowRef:
    """A workflow by name or id. A name is looked up once, when the id is first needed."""

    key: int | str

    def id(self, platform: Platform) -> Op[int]:
        if not isinstance(self.key, int):
            self.key = yield from _id_of(platform, self.key)
        return self.key


def _id_of(platform: Platform, name: str) -> Op[int]:
    query = {"search": name, "page_size": 200}
    listed = yield from collected(pages(platform, "/api/v1/workflows", query, lambda raw: raw))
    found = [one["id"] for one in listed if one["name"] == name]
    if not found:
        raise NotFoundError(f"There is no workflow {name!r}, or you cannot see it.", status=404, code="not_found")
    if len(found) > 1:
        ids = ", ".join(map(str, sorted(found)))
        raise AmbiguousNameError(f"{len(found)} workflows are called {name!r}. Use an id: {ids}.")
    return int(found[0])


def workflow_info(platform: Platform, workflow: WorkflowRef) -> Op[WorkflowInfo]:
    path = f"/api/v1/workflows/{(yield from workflow.id(platform))}"
    return (yield from get(platform, path, lambda raw: decode(WorkflowInfo, raw)))


def workflow_schema(platform: Platform, workflow: WorkflowRef) -> Op[dict[str, Any]]:
    """Return the JSON schema of the parameters of a workflow, with the workflow's defaults."""
    info = yield from workflow_info(platform, workflow)
    dag = yield from get(platform, f"/api/v1/dags/{quote(info.dag_id, safe='')}", dict, airflow=info.airflow)
    return with_defaults(dag.get("params_schema") or {}, info.default_parameters or {})


def task_ids(platform: Platform, workflow: WorkflowRef) -> Op[list[str]]:
    """Return the tasks of the DAG of a workflow."""
    info = yield from workflow_info(platform, workflow)
    dag = yield from get(platform, f"/api/v1/dags/{quote(info.dag_id, safe='')}", dict, airflow=info.airflow)
    return [str(task["task_id"]) for task in dag.get("tasks") or []]


def with_defaults(schema: Mapping[str, Any], defaults: Parameters) -> dict[str, Any]:
    properties = {name: dict(one) for name, one in schema.get("properties", {}).items()}
    for name, value in defaults.items():
        properties.setdefault(name, {})["default"] = value
    return {**schema, "properties": properties}


def workflows(platform: Platform, filters: Query) -> Op[None]:
    return (yield from pages(platform, "/api/v1/workflows", filters, lambda raw: decode(WorkflowInfo, raw)))


def request_of(
    parameters: Any = None,
    more: Parameters | None = None,
    *,
    task_id: int | str | None = None,
    dataset_id: int | str | None = None,
    note: str | None = None,
    run_at: datetime | None = None,
    logical_date: datetime | None = None,
    data_interval: tuple[datetime, datetime] | None = None,
) -> dict[str, Any]:
    """Return the body of a trigger. `parameters` may be a mapping or a dataclass, `more` overrides it."""
    given = asdict(cast("Any", parameters)) if is_dataclass(parameters) else dict(parameters or {})
    interval = data_interval and {"start": text(data_interval[0]), "end": text(data_interval[1])}
    body = {
        "parameters": {**given, **(more or {})},
        "task_id": task_id,
        "dataset_id": dataset_id,
        "note": note,
        "run_at": run_at and text(run_at),
        "logical_date": logical_date and text(logical_date),
        "data_interval": interval,
    }
    return {name: value for name, value in body.items() if value is not None}


def trigger(platform: Platform, workflow: WorkflowRef, body: Mapping[str, Any], key: str | None) -> Op[RunInfo]:
    """Start a run. With its key, the request may be repeated: there is one run, however often it arrives."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    path = f"/api/v1/workflows/{(yield from workflow.id(platform))}/runs"
    answer = yield from call(platform, "POST", path, body=body, headers=headers, may_repeat=True)
    return decode(RunInfo, answer.json)


def validate(platform: Platform, workflow: WorkflowRef, body: Mapping[str, Any]) -> Op[dict[str, Any]]:
    path = f"/api/v1/workflows/{(yield from workflow.id(platform))}/runs/validate"
    answer = yield from call(platform, "POST", path, body=body, may_repeat=True)
    return dict(answer.json["parameters"])


# --- Runs -----------------------------------------------------------------------------------------


def find_run(platform: Platform, run_id: str, workflow_id: int | None) -> Op[RunInfo]:
    """Return a run by its id. Its workflow, if it is not known, is read from the log."""
    if workflow_id is None:
        answer = (yield from call(platform, "GET", "/api/v1/events", query={"run": run_id, "limit": 1})).json
        if not answer["results"]:
            detail = f"The log has no event of the run {run_id}. Name its workflow too."
            raise NotFoundError(detail, status=404, code="not_found")
        workflow_id = answer["results"][0]["workflow_id"]
    return (yield from run_info(platform, RunRef(run_id, int(workflow_id))))


def run_info(platform: Platform, run: RunRef) -> Op[RunInfo]:
    return (yield from get(platform, run.path, lambda raw: decode(RunInfo, raw)))


def runs(platform: Platform, workflow: WorkflowRef | None, make: Callable[[RunInfo], Any], filters: Query) -> Op[None]:
    of = f"/workflows/{(yield from workflow.id(platform))}" if workflow else ""
    return (yield from pages(platform, f"/api/v1{of}/runs", filters, lambda raw: make(decode(RunInfo, raw))))


def tasks(platform: Platform, run: RunRef) -> Op[None]:
    return (yield from pages(platform, f"{run.path}/tasks", {}, lambda raw: decode(TaskInfo, raw)))


def explain(platform: Platform, run: RunRef) -> Op[Explanation]:
    return (yield from get(platform, f"{run.path}/explain", lambda raw: decode(Explanation, raw)))


def ticket(platform: Platform, run: RunRef, actions: list[str], ttl: int) -> Op[Ticket]:
    body = {"run_id": run.id, "actions": actions, "ttl": ttl}
    # One ticket too many does no harm: nobody has it.
    answer = yield from call(platform, "POST", "/api/v1/tickets", body=body, may_repeat=True)
    return decode(Ticket, answer.json)


def control(platform: Platform, before: RunInfo, action: Action, **options: Any) -> Op[RunInfo]:
    """Stop, retry, pause or resume a run.

    If the answer is lost, the run tells whether the request arrived; only if it did not is it sent again.
    """
    run = RunRef(before.id, before.workflow_id)
    body = {"action": action, **{name: value for name, value in options.items() if value is not None}}
    if action == "retry":
        before = yield from run_info(platform, run)
    for tries in range(LOST_ANSWERS):
        try:
            answer = yield from call(platform, "POST", f"{run.path}/control", body=body)
        except TransportError:
            now = yield from run_info(platform, run)
            if _is_done(action, before, now):
                return now
            yield Wait(backoff.pause(tries, chance=platform.chance()))
        else:
            return decode(RunInfo, answer.json)
    raise TransportError(f"The request to {action} the run was cut {LOST_ANSWERS} times.")


def _is_done(action: Action, before: RunInfo, now: RunInfo) -> bool:
    if action == "retry":
        return now.attempt > before.attempt
    if action == "stop":
        return now.state == "stopping" or now.state in TERMINAL
    return (now.paused or now.pausing) == (action == "pause")


def preview_retry(platform: Platform, run: RunRef, **options: Any) -> Op[list[TaskRef]]:
    given = {name: value for name, value in options.items() if value is not None}
    body = {"action": "retry", "dry_run": True, **given}
    answer = yield from call(platform, "POST", f"{run.path}/control", body=body, may_repeat=True)
    return [decode(TaskRef, one) for one in answer.json["would_run"]]


# --- Streams --------------------------------------------------------------------------------------


def events(platform: Platform, wanted: Wanted, after: int | None, *, live: bool) -> Op[None]:
    """Emit the events after a cursor, up to now or for ever. Without a cursor, those from now on, or all."""
    reader = Reader(wanted, after if live else after or 0)
    if not live:
        yield from patiently(platform, read_log, reader)
        return
    yield from follow(platform, reader)


def follow_run(
    platform: Platform, run: RunRef, after: int | None, timeout: float | None, until_ended: bool
) -> Op[None]:
    """Emit the events of a run after a cursor, by default from its first one, until it has ended."""
    ends_at = None if timeout is None else platform.now() + timeout
    reader = Reader(Wanted(workflow=run.workflow_id, run=run.id), after or 0, until_ended)
    # What there is comes from the database; the stream goes on from there.
    read = _history if platform.credentials.is_ticket else read_log
    yield from patiently(platform, read, reader)
    if until_ended and not reader.knows_state:
        # The platform may have dropped the events of a run that has ended long ago.
        info: RunInfo = yield from patiently(platform, run_info, run)
        if info.state in TERMINAL:
            return
    yield from follow(platform, reader, ends_at=ends_at)


def _history(platform: Platform, reader: Reader) -> Op[None]:
    """Emit the events of a run that a ticket is for: it opens no other list of events."""
    path = RunRef(str(reader.wanted.run), int(reader.wanted.workflow or 0)).path
    for event in (yield from collected(pages(platform, f"{path}/events", {}, lambda raw: raw))):
        for one in reader.page({"results": [event], "cursor": event["id"]}):
            yield Emit(one)
    reader.caught_up()


def wait(platform: Platform, run: RunRef, timeout: float | None) -> Op[RunInfo]:
    """Return the run when it has ended; raise `WaitTimeoutError` after the timeout."""
    ends_at = None if timeout is None else platform.now() + timeout
    while True:
        # Asked also after the end: it may have been retried since.
        info: RunInfo = yield from patiently(platform, run_info, run)
        if info.state in TERMINAL:
            return info
        require_time(platform, ends_at)
        left = None if ends_at is None else max(0.0, ends_at - platform.now())
        yield from without_items(follow_run(platform, run, None, left, until_ended=True))


def result(platform: Platform, run: RunRef, timeout: float | None) -> Op[Result]:
    """Return the result of a run when it has ended and Airflow has given the result."""
    ends_at = None if timeout is None else platform.now() + timeout
    yield from wait(platform, run, timeout)
    while True:
        answer = yield from patiently(platform, call, "GET", f"{run.path}/result")
        found = decode(Result, answer.json)
        if found.state != "pending":
            return found
        require_time(platform, ends_at)
        yield Wait(RESULT_PAUSE)


# --- Logs -----------------------------------------------------------------------------------------


@dataclass
class _Log:
    """The log of one try of a task, and how far it is read."""

    path: str
    task_id: str
    map_index: int
    try_number: int | None
    tail: int | None = None
    cursor: str | None = None
    has_more: bool = True
    ended: bool = False

    def page(self, platform: Platform) -> Op[list[LogLine]]:
        """Return the lines that follow. While Airflow is still preparing them, there are none."""
        index = None if self.map_index < 0 else self.map_index
        query = {"try_number": self.try_number, "map_index": index, "cursor": self.cursor, "tail": self.tail}
        answer = yield from call(platform, "GET", self.path, query=query)
        self.has_more = answer.status == 202
        if self.has_more:
            yield Wait(float(answer.headers.get("retry-after", LOG_PAUSE)))
            return []
        page = answer.json
        self.cursor, self.has_more, self.ended, self.tail = page["cursor"], page["has_more"], page["ended"], None
        self.try_number = page["try_number"]
        return [decode(LogLine, {**page, **line}) for line in page["lines"]]


def _new_lines(platform: Platform, log: _Log) -> Op[None]:
    """Emit what can be read at once."""
    log.has_more = not log.ended
    while log.has_more:
        for line in (yield from patiently(platform, log.page)):
            yield Emit(line)


def task_log(platform: Platform, log: _Log, *, live: bool) -> Op[None]:
    """Emit the lines of one log."""
    while True:
        yield from _new_lines(platform, log)
        if log.ended or not live:
            return
        yield Wait(LOG_PAUSE)


def run_logs(platform: Platform, run: RunRef, *, tail: int | None, live: bool) -> Op[None]:
    """Emit the lines of all logs of a run, each as it grows, until the run and all logs have ended."""
    logs: dict[tuple[str, int, int], _Log] = {}
    while True:
        info: RunInfo = yield from patiently(platform, run_info, run)
        found: list[TaskInfo] = yield from patiently(platform, _tasks_of, run)
        for task in sorted((one for one in found if one.started_at), key=_start):
            key = (task.task_id, task.map_index, task.try_number)
            logs.setdefault(key, log_of(run, *key, tail=tail))
        for log in logs.values():
            try:
                yield from _new_lines(platform, log)
            except NotFoundError:
                # Airflow keeps no log of this try.
                log.ended = True
        is_over = info.state in TERMINAL and all(log.ended for log in logs.values())
        if is_over or not live:
            return
        yield Wait(LOG_PAUSE)


def _tasks_of(platform: Platform, run: RunRef) -> Op[list[TaskInfo]]:
    return (yield from collected(tasks(platform, run)))


def _start(task: TaskInfo) -> tuple[float, str]:
    return (task.started_at.timestamp() if task.started_at else 0.0, task.name)


def log_of(run: RunRef, task_id: str, map_index: int, try_number: int | None, *, tail: int | None = None) -> _Log:
    return _Log(f"{run.path}/tasks/{quote(task_id, safe='')}/logs", task_id, map_index, try_number, tail)
