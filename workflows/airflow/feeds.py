"""What has changed in Airflow since a moment, at a cost that does not grow with what goes on unchanged.

`updated_at` alone would not do: the heartbeats of a running task and each decision of the scheduler about a running run
move it. So what runs is asked for by its start, and everything else by `updated_at`. A task that goes on after it was
deferred keeps its start: only the audit log shows that it runs again.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from .connection import Connection
from .http import Params
from .reading import Record
from .types import DagRun, TaskInstance, TaskRef

NEVER = datetime.min.replace(tzinfo=UTC)
ENDED_OR_QUEUED = ["queued", "success", "failed"]
# A start is the time of the worker, which then waits for Airflow to store it.
STORED_WITHIN = timedelta(seconds=20)


def changed_runs(connection: Connection, when: datetime, *, dag_ids: Collection[str]) -> list[DagRun]:
    """Return the runs of these DAGs that changed at or after `when`, ordered by the last of their own times."""
    path, key = "/dags/~/dagRuns", "dag_runs"
    # Newest first: a run that changes meanwhile moves to the front, so no unread run moves behind the reader.
    others: Params = {
        "state": ["queued", "success", "failed"],
        "updated_at_gte": moment(when),
        "order_by": "-updated_at",
    }
    running: Params = {"state": ["running"], "start_date_gte": moment(when - STORED_WITHIN), "order_by": "-start_date"}
    rows = chain.from_iterable(_feed(connection, path, key, params, dag_ids) for params in (others, running))
    runs = {(run.dag_id, run.dag_run_id): run for run in map(DagRun.parse, rows)}
    return sorted(runs.values(), key=_last_time)


def changed_tasks(connection: Connection, when: datetime, *, dag_ids: Collection[str]) -> list[TaskInstance]:
    """Return the task instances that changed at or after `when`, ordered by the last of their own times."""
    path, key = "/dags/~/dagRuns/~/taskInstances", "task_instances"
    adapter = connection.adapter
    others: Params = {**adapter.task_feed, "state": [*adapter.states_but_running], "updated_at_gte": moment(when)}
    running: Params = {**adapter.task_feed, "state": ["running"], "start_date_gte": moment(when - STORED_WITHIN)}
    rows = chain.from_iterable(_feed(connection, path, key, params, dag_ids) for params in (others, running))
    tasks = {(task.ref, task.id): task for task in map(TaskInstance.parse, rows)}
    return sorted(tasks.values(), key=_last_time)


def begun_tasks(connection: Connection, when: datetime) -> set[TaskRef]:
    """Return which task instances of all of Airflow began to run, or to run again, at or after `when`."""
    params = {"event": "running", "after": moment(when), "order_by": "-event_log_id"}
    rows = [Record(row, "event log") for row in connection.pages("/eventLogs", "event_logs", params)]
    return {TaskRef.of_event(row) for row in rows if row.value("run_id")}


def moment(when: datetime) -> str:
    if when.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    return when.astimezone(UTC).isoformat()


def _feed(connection: Connection, path: str, key: str, params: Params, dag_ids: Collection[str]) -> Iterator[Any]:
    """Yield the rows of these DAGs. What is read later replaces what is read before: it is newer."""
    for scope in connection.adapter.only_dags(dag_ids):
        yield from of_dags(connection.feed(path, key, {**params, **scope}), dag_ids)


def of_dags(rows: Iterable[Any], dag_ids: Collection[str]) -> Iterator[Any]:
    return (row for row in rows if Record(row, "row").value("dag_id") in dag_ids)


def _last_time(seen: DagRun | TaskInstance) -> datetime:
    return max(seen.queued_at or NEVER, seen.start_date or NEVER, seen.end_date or NEVER)
