"""Collects what observations change, and writes it in a few queries for many runs.

The runs are locked, so what is collected is still true when it is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Unpack
from uuid import UUID

from django.db import transaction

from workflows.dispatch import commands, wake
from workflows.eventlog import events
from workflows.lifecycle import moves, results
from workflows.lifecycle.results import Found
from workflows.models import ResultState, Run, RunChanges, RunResult, TaskInstance
from workflows.states import RunState

# Of a row that exists. Its run and task never change.
TASK_COLUMNS = (
    "map_index", "instance_id", "state", "try_number", "max_tries", "operator", "started_at", "ended_at", "receipt_try",
    "question", "start_recorded", "end_recorded", "recorded_from",
)  # fmt: skip


class Writes:
    """Changes of locked runs. Each call changes the given object at once, and the database with `flush`.

    Who calls a function that reads or writes one of the runs in the database calls `flush` before.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._runs: dict[UUID, Run] = {}
        self._columns: dict[UUID, set[str]] = defaultdict(set)
        self._tasks: dict[int, TaskInstance] = {}
        self._gone: list[TaskInstance] = []
        self._entries: list[events.Entry] = []
        self._results: dict[RunResult, datetime] = {}

    def set(self, run: Run, **changes: Any) -> None:
        """Change columns of the run."""
        for name, value in changes.items():
            setattr(run, name, value)
        self._runs[run.pk] = run
        self._columns[run.pk] |= changes.keys()

    def move(self, run: Run, *, to: RunState, **changes: Unpack[RunChanges]) -> bool:
        """Change the state if the table allows it. Return whether it did."""
        changed = moves.changes_of_move(run, to=to, **changes)
        if changed:
            self.set(run, **changed)
        return bool(changed)

    def record(self, run: Run, data: events.EventData, *, at: datetime, task_id: str = "") -> None:
        self._entries.append(events.Entry(data=data, now=at, run=run, task_id=task_id))

    def result(self, run: Run, task_id: str, known: Found | None, *, at: datetime) -> events.ResultData:
        """Store the result of a run that has just succeeded, or that it is owed. Return it as it is shown."""
        row = results.row(run, task_id, known, now=at)
        self._results[row] = at
        return results.data_of(run, row)

    def save(self, task: TaskInstance) -> None:
        self._tasks[id(task)] = task

    def delete(self, task: TaskInstance) -> None:
        self._tasks.pop(id(task), None)
        if task.pk is not None:
            self._gone.append(task)

    def flush(self) -> None:
        """Write what was collected since the last time."""
        _write_tasks(self._tasks.values(), self._gone)
        _write_runs(self._runs.values(), self._columns)
        events.record_all(self._entries)
        _write_results(self._results)
        self._forget()


def _write_tasks(tasks: Iterable[TaskInstance], gone: list[TaskInstance]) -> None:
    if gone:
        TaskInstance.objects.filter(pk__in=[task.pk for task in gone]).delete()
    new = [task for task in tasks if task.pk is None]
    changed = [task for task in tasks if task.pk is not None]
    if changed:
        # bulk_update() would write one CASE with a branch for each row and column, which takes several times as long.
        TaskInstance.objects.bulk_create(
            changed, update_conflicts=True, unique_fields=["id"], update_fields=TASK_COLUMNS
        )
    if new:
        TaskInstance.objects.bulk_create(new)


def _write_results(rows: Mapping[RunResult, datetime]) -> None:
    """Write the results. What is still owed is a command, which a worker sends after the commit."""
    if not rows:
        return
    results.save(rows)
    owed = [row for row in rows if row.state == ResultState.PENDING]
    commands.record_results((row.run, row.task_id, rows[row]) for row in owed)
    for airflow in {row.run.airflow_name for row in owed}:
        transaction.on_commit(partial(wake.wake_worker, airflow), robust=True)


def _write_runs(runs: Iterable[Run], columns: Mapping[UUID, set[str]]) -> None:
    """Write of each run only the columns that have changed."""
    alike: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        alike[tuple(sorted(columns[run.pk]))].append(run)
    for names, changed in alike.items():
        values = [[getattr(run, name) for name in names] for run in changed]
        if all(others == values[0] for others in values):
            same = dict(zip(names, values[0], strict=True))
            Run.objects.filter(pk__in=[run.pk for run in changed]).update(**same)
        else:
            Run.objects.bulk_update(changed, names)
