"""The client: operations grouped by noun, the same for every supported Airflow."""

import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from .connection import Connection
from .errors import AirflowConflictError, AirflowNotFoundError, AirflowRejectedError
from .http import Params, Timeout
from .reading import Record
from .tasklog import Ending, LogEnd, end_of
from .types import (
    Dag,
    DagDetails,
    DagImportError,
    DagRun,
    DagTask,
    Health,
    LogChunk,
    LogLine,
    Pool,
    TaskInstance,
    TaskRef,
)

# What Airflow 3 demands; 2.11 answers other characters with an internal error.
RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")
RUNS_PER_BATCH = 200
ENDED = frozenset({"success", "failed"})

# Named here because `list` is a method inside the classes below.
DagList = list[Dag]
DagTaskList = list[DagTask]
ImportErrorList = list[DagImportError]
RunList = list[DagRun]
TaskList = list[TaskInstance]
RefList = list[TaskRef]

NEVER = datetime.min.replace(tzinfo=UTC)


class AirflowClient:
    """One Airflow, 2.11 or 3.x, for any number of threads; make it after a fork, not before.

    Version and credentials are looked at when they are first needed. Every method may raise an
    `AirflowError`; `retryable` there tells whether the same call may work later.
    """

    def __init__(
        self,
        base_url: str,
        *,
        username: str,
        password: str,
        timeout: Timeout = Timeout(),  # noqa: B008  (frozen)
        pool_size: int = 8,
    ) -> None:
        self._connection = Connection(
            base_url, username=username, password=password, timeout=timeout, pool_size=pool_size
        )
        self.dags = Dags(self._connection)
        self.tasks = Tasks(self._connection)
        self.runs = Runs(self._connection, self.tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Bound what this thread asks meanwhile: no request begins after `seconds`, and none takes thrice as long."""
        return self._connection.within(seconds)

    def version(self) -> str:
        return Record(self._connection.open("/version"), "version").text("version")

    def health(self) -> Health:
        """The health of each component. An Airflow that answers may still have unhealthy ones."""
        return Health.parse(self._connection.open(self._connection.adapter.health_path))

    def pools(self) -> list[Pool]:
        return [Pool.parse(row) for row in self._connection.pages("/pools", "pools", {})]

    def warm_up(self) -> None:
        """Make Airflow 3 build its lazy execution API now, so that the first task need not wait for it."""
        if path := self._connection.adapter.warm_up_path:
            self._connection.touch(path)


class Dags:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, tags: Collection[str] = ()) -> DagList:
        """All DAGs that are not stale; with `tags`, those that have at least one of them."""
        params: dict[str, str | list[str]] = {"order_by": "dag_id"}
        if tags:
            params["tags"] = sorted(tags)
        rows = self._connection.pages("/dags", "dags", params)
        return [self._dag(row) for row in rows]

    def get(self, dag_id: str) -> DagDetails:
        connection = self._connection
        return DagDetails.parse(connection.adapter.details(connection.get, _dag_path(dag_id)))

    def tasks(self, dag_id: str) -> DagTaskList:
        body = Record(self._connection.get(f"{_dag_path(dag_id)}/tasks"), "tasks")
        return [DagTask.parse(task) for task in body.items("tasks")]

    def set_paused(self, dag_id: str, is_paused: bool) -> Dag:
        return self._dag(self._connection.call("PATCH", _dag_path(dag_id), json={"is_paused": is_paused}))

    def import_errors(self) -> ImportErrorList:
        rows = self._connection.pages("/importErrors", "import_errors", {"order_by": "import_error_id"})
        return [DagImportError.parse(row) for row in rows]

    def _dag(self, data: Any) -> Dag:
        return Dag.parse(self._connection.adapter.dag(data))


class Runs:
    def __init__(self, connection: Connection, tasks: "Tasks") -> None:
        self._connection = connection
        self._tasks = tasks

    def trigger(self, dag_id: str, *, dag_run_id: str, conf: Mapping[str, Any], note: str | None = None) -> DagRun:
        """Start a run under an id that we chose.

        After a retryable error the caller may simply call again: if the first request did get
        through, Airflow answers 409 and the run that exists is returned.
        """
        if not RUN_ID.fullmatch(dag_run_id):
            raise AirflowRejectedError(f"{dag_run_id!r} is not a run id")
        body = self._connection.adapter.trigger_body(dag_run_id=dag_run_id, conf=conf, note=note)
        try:
            return DagRun.parse(self._connection.call("POST", f"{_dag_path(dag_id)}/dagRuns", json=body))
        except AirflowConflictError as conflict:
            return self._adopt(dag_id, dag_run_id, conflict)

    def get(self, dag_id: str, dag_run_id: str) -> DagRun:
        return DagRun.parse(self._connection.get(_run_path(dag_id, dag_run_id)))

    def changed_since(self, when: datetime, *, dag_ids: Collection[str]) -> RunList:
        """Runs of these DAGs that changed at or after `when`, the oldest change first.

        A run that changes while the pages are read may be missing; its change is then later than the
        call, so a caller that takes its next `when` from before the call sees it. Deleted runs never appear.
        """
        if not dag_ids:
            return []
        # Newest first: what changes meanwhile joins in front and pushes no unread run past the reader.
        params = {"updated_at_gte": _moment(when), "order_by": "-updated_at"}
        path, scope = "/dags/~/dagRuns", self._connection.adapter.only_dags(dag_ids)
        rows = self._connection.pages(path, "dag_runs", {**params, **scope})
        return _distinct_runs(rows, dag_ids)[::-1]

    def list(self, *, dag_ids: Collection[str], states: Collection[str] = ()) -> RunList:
        """Runs of these DAGs, in these states or in any.

        With more than one page of runs, one that leaves the states meanwhile can hide another:
        ask for a missing run by its id before calling it gone.
        """
        if not dag_ids:
            return []
        body: dict[str, Any] = {"dag_ids": sorted(dag_ids), "order_by": "id"}
        if states:
            body["states"] = sorted(states)
        rows = self._connection.batch("/dags/~/dagRuns/list", "dag_runs", body)
        return _distinct_runs(rows, dag_ids)

    def set_state(self, dag_id: str, dag_run_id: str, state: str) -> DagRun:
        """Mark the run `success`, `failed` or `queued`. Processes of its tasks live on for some seconds."""
        path = _run_path(dag_id, dag_run_id)
        return DagRun.parse(self._connection.call("PATCH", path, json={"state": state}))

    def set_note(self, dag_id: str, dag_run_id: str, note: str) -> DagRun:
        path = self._connection.adapter.note_path(_run_path(dag_id, dag_run_id))
        return DagRun.parse(self._connection.call("PATCH", path, json={"note": note}))

    def delete(self, dag_id: str, dag_run_id: str) -> None:
        """Delete a run that has ended; any other is a conflict."""
        run = self.get(dag_id, dag_run_id)
        if run.state not in ENDED:
            # Airflow itself refuses only `running`: 3.3.2 deletes a queued run and that ends its scheduler
            # (StaleDataError in its loop); 2.11 deletes a running one and kills its tasks.
            raise AirflowConflictError(f"a run that is {run.state} is not deleted")
        self._connection.call("DELETE", _run_path(dag_id, dag_run_id))

    def clear(self, dag_id: str, dag_run_id: str, *, dry_run: bool) -> TaskList:
        """Run the whole run again; returns the instances that are (`dry_run`: would be) cleared.

        2.11 does not describe what it cleared: there they are as they stood just before.
        """
        if not self._connection.adapter.clear_answers_references_only:
            rows = _clear(self._connection, dag_id, dag_run_id, dry_run=dry_run, only_failed=False)
            return [TaskInstance.parse(row) for row in rows]
        before = self._tasks.list(dag_run_ids={dag_id: [dag_run_id]})
        rows = _clear(self._connection, dag_id, dag_run_id, dry_run=dry_run, only_failed=False)
        cleared = {Record(row, "reference").text("task_id") for row in rows}
        return [task for task in before if task.task_id in cleared]

    def _adopt(self, dag_id: str, dag_run_id: str, conflict: AirflowConflictError) -> DagRun:
        try:
            return self.get(dag_id, dag_run_id)
        except AirflowNotFoundError as exc:
            # Airflow 3 answers 409 to any clash of a unique value, of which the run id is only one.
            raise AirflowRejectedError(conflict.message, status=conflict.status) from exc


class Tasks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def changed_since(self, when: datetime, *, dag_ids: Collection[str]) -> TaskList:
        """Task instances that changed at or after `when`, ordered by the last of their own times.

        The promise and its limits are those of `Runs.changed_since`.
        """
        if not dag_ids:
            return []
        adapter = self._connection.adapter
        params = {"updated_at_gte": _moment(when), **adapter.task_feed, **adapter.only_dags(dag_ids)}
        rows = self._connection.pages("/dags/~/dagRuns/~/taskInstances", "task_instances", params)
        return sorted((task for task in _distinct_tasks(rows) if task.dag_id in dag_ids), key=_last_time)

    def get(self, dag_id: str, dag_run_id: str, task_id: str, *, map_index: int = -1) -> TaskInstance:
        """One task instance; those of a mapped task have a `map_index` from 0 on."""
        index = f"/{map_index}" if map_index >= 0 else ""
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}{index}"
        return TaskInstance.parse(self._connection.get(path))

    def list(self, *, dag_run_ids: Mapping[str, Collection[str]]) -> TaskList:
        """The task instances of these runs (DAG id → run ids), many runs per request; none for unknown runs.

        Airflow 3 writes each question about more than one run into its audit log: watch by `changed_since`.
        """
        wanted = [(dag_id, run_id) for dag_id, run_ids in dag_run_ids.items() for run_id in run_ids]
        if len(wanted) == 1:
            return self._of_run(*wanted[0])
        return [task for some in _chunks(wanted) for task in self._of_runs(set(some))]

    def clear(
        self,
        dag_id: str,
        dag_run_id: str,
        *,
        task_ids: Collection[str] | None = None,
        only_failed: bool,
        include_downstream: bool,
        dry_run: bool,
    ) -> RefList:
        """Run all tasks of the run (None) or the named ones again; returns the (`dry_run`: would-be) cleared.

        2.11 does not tell the instances of a mapped task apart: it is named once, with map_index -1.
        """
        if task_ids is not None and not task_ids:
            # Airflow would read an empty list as "all".
            return []
        rows = _clear(
            self._connection,
            dag_id,
            dag_run_id,
            dry_run=dry_run,
            only_failed=only_failed,
            include_downstream=include_downstream,
            task_ids=task_ids,
        )
        refs = (TaskRef.parse(self._connection.adapter.reference(row)) for row in rows)
        return list(dict.fromkeys(refs))

    def log(
        self,
        dag_id: str,
        dag_run_id: str,
        task_id: str,
        *,
        try_number: int,
        map_index: int = -1,
        token: str | None = None,
    ) -> LogChunk:
        """The log of one attempt from its start, or what is new since the chunk that had `token`.

        Airflow 3 ends a log with the task's state. The process of a task that was marked from outside lives
        on for some seconds and writes on: a reading without `token` shows that, up to "Task killed!".
        """
        params: dict[str, str | int] = {"map_index": map_index, "full_content": "false"}
        if token is not None:
            params["token"] = token
        path = _log_path(dag_id, dag_run_id, task_id, try_number)
        return self._connection.adapter.log(self._connection.get(path, params))

    def log_lines(
        self, dag_id: str, dag_run_id: str, task_id: str, *, try_number: int, map_index: int = -1
    ) -> Generator[LogLine, None, None]:
        """The log of one attempt as it is now, from its start, however large: one line in memory at a time.

        A connection is held until the last line was taken or the iterator is closed. 2.11 answers an attempt
        that does not exist with a line of excuse.
        """
        path = _log_path(dag_id, dag_run_id, task_id, try_number)
        params: Params = {"map_index": map_index, "full_content": "false"}
        adapter = self._connection.adapter
        with self._connection.lines(path, params, accept=adapter.log_type) as lines:
            yield from adapter.log_lines(lines)

    def ending(self) -> Ending:
        """To be shown the lines of a log, tells whether the process that wrote them is gone."""
        return self._connection.adapter.ending()

    def log_end(self, dag_id: str, dag_run_id: str, task_id: str, *, try_number: int, map_index: int = -1) -> LogEnd:
        """How the log of an attempt ends: the only proof that the process of a stopped task is gone."""
        lines = self.log_lines(dag_id, dag_run_id, task_id, try_number=try_number, map_index=map_index)
        return end_of(lines, self.ending())

    def _of_run(self, dag_id: str, dag_run_id: str) -> TaskList:
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances"
        rows = self._connection.pages(path, "task_instances", self._connection.adapter.task_feed)
        try:
            return _distinct_tasks(rows)
        except AirflowNotFoundError:
            return []

    def _of_runs(self, wanted: set[tuple[str, str]]) -> TaskList:
        body = {
            "dag_ids": sorted({dag_id for dag_id, _ in wanted}),
            "dag_run_ids": sorted({run_id for _, run_id in wanted}),
            **self._connection.adapter.task_batch,
        }
        path = "/dags/~/dagRuns/~/taskInstances/list"
        tasks = _distinct_tasks(self._connection.batch(path, "task_instances", body))
        # Airflow answers every pair of these DAGs and ids; two DAGs may use the same run id.
        return [task for task in tasks if (task.dag_id, task.dag_run_id) in wanted]


def _clear(
    connection: Connection,
    dag_id: str,
    dag_run_id: str,
    *,
    dry_run: bool,
    only_failed: bool,
    include_downstream: bool = False,
    task_ids: Collection[str] | None = None,
) -> list[Any]:
    body: dict[str, Any] = {
        "dag_run_id": dag_run_id,
        "dry_run": dry_run,
        "only_failed": only_failed,
        "include_downstream": include_downstream,
        "reset_dag_runs": True,
    }
    if task_ids is not None:
        body["task_ids"] = sorted(task_ids)
    answer = connection.call("POST", f"{_dag_path(dag_id)}/clearTaskInstances", json=body)
    return list(Record(answer, "cleared tasks").items("task_instances"))


def _distinct_runs(rows: Iterable[Any], dag_ids: Collection[str]) -> RunList:
    runs = map(DagRun.parse, rows)
    return list({(run.dag_id, run.dag_run_id): run for run in runs if run.dag_id in dag_ids}.values())


def _distinct_tasks(rows: Iterable[Any]) -> TaskList:
    return list({task.ref: task for task in map(TaskInstance.parse, rows)}.values())


def _part(text: str) -> str:
    """One part of a path. `~` would mean "any", a slash or dots would make it another path, even quoted."""
    if text in {"", ".", "..", "~"} or "/" in text:
        raise AirflowRejectedError(f"{text!r} is not an id")
    return quote(text, safe="")


def _dag_path(dag_id: str) -> str:
    return f"/dags/{_part(dag_id)}"


def _run_path(dag_id: str, dag_run_id: str) -> str:
    return f"{_dag_path(dag_id)}/dagRuns/{_part(dag_run_id)}"


def _log_path(dag_id: str, dag_run_id: str, task_id: str, try_number: int) -> str:
    return f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}/logs/{try_number}"


def _moment(when: datetime) -> str:
    if when.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    return when.astimezone(UTC).isoformat()


def _last_time(task: TaskInstance) -> datetime:
    return max(task.queued_at or NEVER, task.start_date or NEVER, task.end_date or NEVER)


def _chunks(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    remaining = iter(pairs)
    while chunk := list(islice(remaining, RUNS_PER_BATCH)):
        yield chunk
