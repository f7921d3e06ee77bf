"""The client: operations grouped by noun, the same for every supported Airflow."""

import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from . import feeds
from .access import Access
from .connection import DAGS, Connection
from .credentials import Keeper
from .errors import AirflowConflictError, AirflowNotFoundError, AirflowRejectedError, AirflowShapeError
from .http import Params, Timeout
from .pace import Pace
from .probes import Probes
from .reading import Record
from .structure import places
from .tasklog import Ending
from .types import (
    Dag,
    DagDetails,
    DagImportError,
    DagRun,
    DagTask,
    DataInterval,
    Health,
    LogLine,
    Mark,
    NewRun,
    Pool,
    Question,
    TaskInstance,
    TaskRef,
    UnreadableDag,
)
from .xcoms import without_classes

# Airflow 3 demands this. Airflow 2.11 answers other characters with an internal error.
RUN_ID = re.compile(r"[A-Za-z0-9_.~:+-]{1,250}")
RUNS_PER_BATCH = 200
ENDED = frozenset({"success", "failed"})

# Named here because `list` is a method inside the classes below.
DagList = list[Dag | UnreadableDag]
DagTaskList = list[DagTask]
ImportErrorList = list[DagImportError]
RunList = list[DagRun]
TaskList = list[TaskInstance]
RefList = list[TaskRef]
QuestionList = list[Question]
RefSet = set[TaskRef]
MarkList = list[Mark]


class AirflowClient:
    """One Airflow, 2.11 or 3.x, for any number of threads. Create it after a fork, not before.

    Version and credentials are read when they are first needed. Every method may raise an `AirflowError`. Its
    `retryable` says whether the same call may work later. `keeper` and `pace` are what clients share; without them, a
    client has its own credentials and no pace. `name` is what its user calls this Airflow.
    """

    def __init__(
        self,
        access: Access,
        *,
        name: str = "",
        keeper: Keeper | None = None,
        pace: Pace | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008  (frozen)
        pool_size: int = 8,
    ) -> None:
        self.name = name
        self._connection = Connection(access, keeper=keeper, pace=pace, timeout=timeout, pool_size=pool_size)
        self.dags = Dags(self._connection)
        self.tasks = Tasks(self._connection)
        self.runs = Runs(self._connection, self.tasks)
        self.probes = Probes(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Limit this thread's calls meanwhile: none begins after `seconds` or takes more than three times as long."""
        return self._connection.within(seconds)

    def version(self) -> str:
        return self._connection.version()

    def health(self) -> Health:
        """Return the health of each component. An Airflow that answers may still have unhealthy components."""
        return Health.parse(self._connection.open(self._connection.adapter.health_path))

    def pools(self) -> list[Pool]:
        return [Pool.parse(row) for row in self._connection.pages("/pools", "pools", {})]


class Dags:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def are_shown(self) -> None:
        """Return if Airflow accepts our credentials and shows our account DAGs, which takes one small request."""
        self._connection.get(DAGS, {"limit": 1})

    def list(self, *, tags: Collection[str] = (), paused: bool | None = None) -> DagList:
        """Return all DAGs that are not stale, or only those with at least one of `tags`, or that are (not) `paused`.

        One that cannot be read hides no other: it is an `UnreadableDag`.
        """
        params: dict[str, str | list[str]] = {"order_by": "dag_id"}
        if paused is not None:
            params["paused"] = "true" if paused else "false"
        if tags:
            params["tags"] = sorted(tags)
        rows = self._connection.pages("/dags", "dags", params)
        return [self._listed(row) for row in rows]

    def get(self, dag_id: str) -> DagDetails:
        connection = self._connection
        return DagDetails.parse(connection.adapter.details(connection.get, _dag_path(dag_id)))

    def tasks(self, dag_id: str) -> DagTaskList:
        body = Record(self._connection.get(f"{_dag_path(dag_id)}/tasks"), "tasks")
        tasks = [DagTask.parse(task) for task in body.items("tasks")]
        places = self._places(dag_id)
        return [replace(task, **places.get(task.task_id, {})) for task in tasks]

    def _places(self, dag_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return `role` and `mapped_group` of tasks that have one. This API is not public: it may be missing."""
        path = self._connection.adapter.structure_path
        structure = path and self._connection.get_outside(path, {"dag_id": dag_id})
        try:
            return places(structure) if structure else {}
        except AirflowShapeError:
            return {}

    def structure(self, dag_id: str) -> object:
        """Return what Airflow's own pages draw of a DAG. Raises `AirflowNotFoundError` if this Airflow has nothing."""
        path = self._connection.adapter.structure_path
        if path is None:
            raise AirflowNotFoundError("this Airflow does not show it")
        return self._connection.ask_outside(path, {"dag_id": dag_id})

    def has_versions(self) -> bool:
        return self._connection.adapter.versions_path is not None

    def versions(self) -> Iterator[tuple[str, int]]:
        """Yield the versions of all DAGs, as DAG and number, the newest first. 2.11 has none.

        A changed DAG gets a new version if a run has used the one before. Otherwise, Airflow changes that one.
        """
        path = self._connection.adapter.versions_path
        rows = self._connection.pages(path, "dag_versions", {"order_by": "-id"}) if path else ()
        for version in (Record(row, "DAG version") for row in rows):
            yield version.text("dag_id"), version.integer("version_number")

    def set_paused(self, dag_id: str, is_paused: bool) -> Dag:
        return self._dag(self._connection.call("PATCH", _dag_path(dag_id), json={"is_paused": is_paused}))

    def import_errors(self) -> ImportErrorList:
        rows = self._connection.pages("/importErrors", "import_errors", {"order_by": "import_error_id"})
        return [DagImportError.parse(row) for row in rows]

    def _listed(self, row: Any) -> Dag | UnreadableDag:
        dag_id = Record(row, "DAG").text("dag_id")
        try:
            return self._dag(row)
        except AirflowShapeError as exc:
            return UnreadableDag(dag_id=dag_id, reason=exc.message)

    def _dag(self, data: Any) -> Dag:
        return Dag.parse(self._connection.adapter.dag(data))


class Runs:
    def __init__(self, connection: Connection, tasks: "Tasks") -> None:
        self._connection = connection
        self._tasks = tasks

    def trigger(
        self,
        dag_id: str,
        *,
        dag_run_id: str,
        conf: Mapping[str, Any],
        note: str | None = None,
        logical_date: datetime | None = None,
        data_interval: DataInterval | None = None,
    ) -> DagRun:
        """Start a run under an id that we chose.

        After a retryable error the caller can simply call again: if the first request has arrived, Airflow answers 409
        and the existing run is returned.

        Two runs of a DAG cannot have the same `logical_date`: the second one is an `AirflowRejectedError`. Without it,
        a run of Airflow 3 has none, and one of 2.11 has the moment of the trigger. `data_interval` needs it.
        """
        if not RUN_ID.fullmatch(dag_run_id):
            raise AirflowRejectedError(f"{dag_run_id!r} is not a run id")
        new = NewRun(
            dag_run_id=dag_run_id, conf=conf, note=note, logical_date=logical_date, data_interval=data_interval
        )
        body = self._connection.adapter.trigger_body(new)
        try:
            return DagRun.parse(self._connection.call("POST", f"{_dag_path(dag_id)}/dagRuns", json=body))
        except AirflowConflictError as conflict:
            reason = f"another run of the DAG has the logical date {logical_date.isoformat()}" if logical_date else ""
            return self._existing(dag_id, dag_run_id, AirflowRejectedError(reason or conflict.message, status=409))

    def get(self, dag_id: str, dag_run_id: str) -> DagRun:
        return DagRun.parse(self._connection.get(_run_path(dag_id, dag_run_id)))

    def changed_since(self, when: datetime, *, dag_ids: Collection[str]) -> RunList:
        """Return the runs of these DAGs that changed at or after `when`, ordered by the last of their own times.

        A running run changes when it starts, not with each decision of the scheduler. The cost does not grow with the
        number of running runs.

        A run that changes while the pages are read may be missing. Its change is then later than the call, so a caller
        whose next `when` is from before the call gets it. Deleted runs never appear.
        """
        return feeds.changed_runs(self._connection, when, dag_ids=dag_ids) if dag_ids else []

    def list(self, *, dag_ids: Collection[str], states: Collection[str] = (), at_most: int | None = None) -> RunList:
        """Return the runs of these DAGs, in these states or in any; of more than `at_most`, the newest.

        With several pages, a run that leaves the states meanwhile can hide another one. Read a missing run by its id
        before you treat it as deleted.
        """
        if not dag_ids:
            return []
        body: dict[str, Any] = {"dag_ids": sorted(dag_ids), "order_by": "-id" if at_most else "id"}
        if states:
            body["states"] = sorted(states)
        rows = self._connection.batch("/dags/~/dagRuns/list", "dag_runs", body)
        return _distinct_runs(islice(rows, at_most), dag_ids)

    def between(
        self,
        first: datetime,
        last: datetime,
        *,
        by: Literal["start", "due"],
        dag_ids: Collection[str],
        states: Collection[str] = (),
        at_most: int,
    ) -> RunList:
        """Return the runs of these DAGs that started, or were due, in this time, or the first `at_most` of them.

        A run that was triggered without a logical date is due at once, and stays so when it is cleared.
        """
        name = "start_date" if by == "start" else self._connection.adapter.due
        body: dict[str, Any] = {
            "dag_ids": sorted(dag_ids),
            "order_by": "id",
            f"{name}_gte": feeds.moment(first),
            f"{name}_lte": feeds.moment(last),
        }
        if states:
            body["states"] = sorted(states)
        rows = self._connection.batch("/dags/~/dagRuns/list", "dag_runs", body)
        return _distinct_runs(islice(rows, at_most), dag_ids)

    def set_state(self, dag_id: str, dag_run_id: str, state: str) -> DagRun:
        """Mark the run `success`, `failed` or `queued`. The processes of its tasks go on for some seconds."""
        path = _run_path(dag_id, dag_run_id)
        return DagRun.parse(self._connection.call("PATCH", path, json={"state": state}))

    def marks(self, dag_id: str, dag_run_id: str) -> MarkList:
        """Return who has given the run, or task instances of it, a state by hand, the latest first, 100 at most."""
        params: dict[str, Any] = {"dag_id": dag_id, "run_id": dag_run_id, "order_by": "-event_log_id", "limit": 100}
        params["included_events"] = self._connection.adapter.mark_events
        rows = Record(self._connection.get("/eventLogs", params), "audit log").items("event_logs")
        return [mark for mark in map(Mark.parse, rows) if mark]

    def delete(self, dag_id: str, dag_run_id: str) -> None:
        """Delete a run that has ended. Any other run is a conflict."""
        run = self.get(dag_id, dag_run_id)
        if run.state not in ENDED:
            # Airflow itself refuses only `running`. 3.3.2 deletes a queued run and its scheduler dies (StaleDataError
            # in its loop). 2.11 deletes a running run and kills its tasks.
            raise AirflowConflictError(f"a run that is {run.state} is not deleted")
        self._connection.call("DELETE", _run_path(dag_id, dag_run_id))

    def clear(self, dag_id: str, dag_run_id: str, *, dry_run: bool) -> TaskList:
        """Run the whole run again. Return the task instances that are (`dry_run`: would be) cleared.

        2.11 does not describe what it has cleared: there, they have their states from just before.
        """
        if not self._connection.adapter.clear_answers_references_only:
            rows = _clear(self._connection, dag_id, dag_run_id, dry_run=dry_run, only_failed=False)
            return [TaskInstance.parse(row) for row in rows]
        before = self._tasks.list(dag_run_ids={dag_id: [dag_run_id]})
        rows = _clear(self._connection, dag_id, dag_run_id, dry_run=dry_run, only_failed=False)
        cleared = {Record(row, "reference").text("task_id") for row in rows}
        return [task for task in before if task.task_id in cleared]

    def _existing(self, dag_id: str, dag_run_id: str, other: AirflowRejectedError) -> DagRun:
        """Return our run after a conflict. Raise `other` if Airflow does not have it.

        Airflow answers 409 for a run id and for a logical date that exist already, and the answer of Airflow 3 does not
        say for which.
        """
        try:
            return self.get(dag_id, dag_run_id)
        except AirflowNotFoundError as exc:
            raise other from exc


class Tasks:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def changed_since(self, when: datetime, *, dag_ids: Collection[str]) -> TaskList:
        """Return the task instances that changed at or after `when`, ordered by the last of their own times.

        It promises the same as `Runs.changed_since`, with the same limits. A heartbeat is no change.
        """
        return feeds.changed_tasks(self._connection, when, dag_ids=dag_ids) if dag_ids else []

    def begun_since(self, when: datetime) -> RefSet:
        """Return which task instances of any DAG began to run, or to run again, since `when`.

        `changed_since` leaves out those that go on after they were deferred, because Airflow does not move their start.
        The account needs the right to read Airflow's audit log.
        """
        return feeds.begun_tasks(self._connection, when)

    def running(self, refs: Collection[TaskRef]) -> TaskList:
        """Return those of these task instances that run now, many per request."""
        found: TaskList = []
        for some in _chunks(sorted({(ref.dag_id, ref.dag_run_id) for ref in refs})):
            task_ids = sorted({ref.task_id for ref in refs if (ref.dag_id, ref.dag_run_id) in some})
            found += self._of_runs(set(some), {"state": ["running"], "task_ids": task_ids})
        return [task for task in found if task.ref in refs]

    def get(self, dag_id: str, dag_run_id: str, task_id: str, *, map_index: int = -1) -> TaskInstance:
        """Return one task instance. Those of a mapped task have a `map_index` of 0 or more."""
        index = f"/{map_index}" if map_index >= 0 else ""
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}{index}"
        return TaskInstance.parse(self._connection.get(path))

    def questions(self, *, dag_ids: Collection[str], states: Collection[str]) -> QuestionList:
        """Return what tasks in these states ask a person, without those that were answered. 2.11 and 3.0 have none."""
        return self._questions({"response_received": "false", "state": sorted(states)}, dag_ids)

    def questions_since(self, when: datetime, *, dag_ids: Collection[str]) -> QuestionList:
        """Return what tasks have asked a person since then, also what was answered. 2.11 and 3.0 have none."""
        return self._questions({"created_at_gte": feeds.moment(when)}, dag_ids)

    def question(self, dag_id: str, dag_run_id: str, task_id: str, *, map_index: int = -1) -> Question:
        """Return what a task instance asks or asked a person, with the answer."""
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}/{map_index}/hitlDetails"
        return Question.parse(self._connection.get(path))

    def list(self, *, dag_run_ids: Mapping[str, Collection[str]]) -> TaskList:
        """Return the task instances of these runs (DAG id → run ids), many runs per request. Unknown runs have none.

        Airflow 3 writes each such request about several runs into its audit log: use `changed_since` for polls.
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
        instances: Collection[tuple[str, int]] = (),
        only_failed: bool,
        include_downstream: bool = False,
        dry_run: bool,
    ) -> RefList:
        """Run all tasks of the run (None) or the named ones again. Return what is (`dry_run`: would be) cleared.

        `instances` are single instances, (task_id, map_index), beside the named tasks. 2.11 does not distinguish the
        instances of a mapped task: it clears all of them, and names the task once, with map_index -1.
        """
        if task_ids is not None and not task_ids and not instances:
            # Airflow would take an empty list for "all".
            return []
        rows = _clear(
            self._connection,
            dag_id,
            dag_run_id,
            dry_run=dry_run,
            only_failed=only_failed,
            include_downstream=include_downstream,
            task_ids=None if task_ids is None else self._connection.adapter.task_markers(task_ids, instances),
        )
        refs = (TaskRef.parse(self._connection.adapter.reference(row)) for row in rows)
        return list(dict.fromkeys(refs))

    def log_lines(
        self, dag_id: str, dag_run_id: str, task_id: str, *, try_number: int, map_index: int = -1
    ) -> Generator[LogLine, None, None]:
        """Yield the log of one attempt as it is now, from its start. Only one line at a time is in memory.

        A connection is held until the last line is read or the iterator is closed. For an attempt that does not exist,
        2.11 answers with a line that says so.
        """
        path = _log_path(dag_id, dag_run_id, task_id, try_number)
        params: Params = {"map_index": map_index, "full_content": "false"}
        adapter = self._connection.adapter
        with self._connection.lines(path, params, accept=adapter.log_type) as lines:
            yield from adapter.log_lines(lines)

    def ending(self) -> Ending:
        """Return a reader of log lines that finds out whether the process that wrote them has ended."""
        return self._connection.adapter.ending()

    def return_value(
        self, dag_id: str, dag_run_id: str, task_id: str, *, map_index: int = -1, at_most: int | None = None
    ) -> Any:
        """Return what a task instance has returned, as JSON: the XCom `return_value`, as Airflow stores it.

        Tuples and sets are lists. What JSON does not know is as Airflow writes it. Raises `AirflowNotFoundError` if
        the task has returned nothing, and `AirflowTooLargeError` if the answer has more than `at_most` bytes.
        """
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}/xcomEntries/return_value"
        # By default, 2.11 answers the text that Python prints.
        params: Params = {"map_index": map_index, "stringify": "false"}
        try:
            entry = Record(self._connection.get(path, params, at_most=at_most), "XCom")
            return without_classes(entry.required("value"))
        except RecursionError as exc:
            raise AirflowRejectedError("the value is nested too deeply") from exc

    def _questions(self, params: Params, dag_ids: Collection[str]) -> QuestionList:
        found: QuestionList = []
        for scope in self._connection.adapter.only_dags(dag_ids):
            rows = self._connection.pages("/dags/~/dagRuns/~/hitlDetails", "hitl_details", {**params, **scope})
            found += [asked for asked in map(Question.parse, rows) if asked.task.dag_id in dag_ids]
        return found

    def _of_run(self, dag_id: str, dag_run_id: str) -> TaskList:
        path = f"{_run_path(dag_id, dag_run_id)}/taskInstances"
        rows = self._connection.pages(path, "task_instances", self._connection.adapter.task_feed)
        try:
            return _distinct_tasks(rows)
        except AirflowNotFoundError:
            return []

    def _of_runs(self, wanted: set[tuple[str, str]], only: Mapping[str, object] = MappingProxyType({})) -> TaskList:
        body = {
            "dag_ids": sorted({dag_id for dag_id, _ in wanted}),
            "dag_run_ids": sorted({run_id for _, run_id in wanted}),
            **self._connection.adapter.task_batch,
            **only,
        }
        path = "/dags/~/dagRuns/~/taskInstances/list"
        tasks = _distinct_tasks(self._connection.batch(path, "task_instances", body))
        # Airflow answers for every pair of these DAGs and run ids. Two DAGs may use the same run id.
        return [task for task in tasks if (task.dag_id, task.dag_run_id) in wanted]


def _clear(
    connection: Connection,
    dag_id: str,
    dag_run_id: str,
    *,
    dry_run: bool,
    only_failed: bool,
    include_downstream: bool = False,
    task_ids: Collection[object] | None = None,
) -> list[Any]:
    body: dict[str, Any] = {
        "dag_run_id": dag_run_id,
        "dry_run": dry_run,
        "only_failed": only_failed,
        "include_downstream": include_downstream,
        "reset_dag_runs": True,
    }
    if task_ids is not None:
        body["task_ids"] = list(task_ids)
    answer = connection.call("POST", f"{_dag_path(dag_id)}/clearTaskInstances", json=body)
    return list(Record(answer, "cleared tasks").items("task_instances"))


def _distinct_runs(rows: Iterable[Any], dag_ids: Collection[str]) -> RunList:
    runs = map(DagRun.parse, feeds.of_dags(rows, dag_ids))
    return list({(run.dag_id, run.dag_run_id): run for run in runs}.values())


def _distinct_tasks(rows: Iterable[Any]) -> TaskList:
    return list({(task.ref, task.id): task for task in map(TaskInstance.parse, rows)}.values())


def _part(text: str) -> str:
    """Quote one part of a path. `~` would mean "any"; a slash or dots would make another path, even quoted."""
    if text in {"", ".", "..", "~"} or "/" in text:
        raise AirflowRejectedError(f"{text!r} is not an id")
    return quote(text, safe="")


def _dag_path(dag_id: str) -> str:
    return f"/dags/{_part(dag_id)}"


def _run_path(dag_id: str, dag_run_id: str) -> str:
    return f"{_dag_path(dag_id)}/dagRuns/{_part(dag_run_id)}"


def _log_path(dag_id: str, dag_run_id: str, task_id: str, try_number: int) -> str:
    return f"{_run_path(dag_id, dag_run_id)}/taskInstances/{_part(task_id)}/logs/{try_number}"


def _chunks(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    remaining = iter(pairs)
    while chunk := list(islice(remaining, RUNS_PER_BATCH)):
        yield chunk
