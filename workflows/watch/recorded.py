"""What the log holds of a task instance. Its row keeps what nearly every observation asks, so the log is rarely read.

`start_recorded` and `end_recorded` are about the row's last known try: whether its start is in the log, and the type of
its newest end there. `recorded_from` is the first try that the log may hold events of. They are unknown, and the log is
read, in a row from before these columns, in one beside another row of its task, and after its try number has fallen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from workflows.airflow import types
from workflows.eventlog import events
from workflows.models import Event, Run, TaskInstance
from workflows.watch.executions import UNMAPPED, Name

ENDS = frozenset({events.TaskCompleted.type, events.TaskFailed.type, events.TaskRetrying.type, events.TaskSkipped.type})
WITHOUT_PROCESS = frozenset({events.TaskSkipped.type, events.TaskFailed.type})


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An event of a task instance that is in the log."""

    type: str
    at: datetime
    try_number: int
    instance_id: str | None


class History:
    """The recorded events of those task instances of a run that an observation names, read when first asked for."""

    def __init__(self, run: Run, names: Collection[Name]) -> None:
        self._run = run
        self._names = names

    def of(self, name: Name) -> Sequence[Recorded]:
        """Return the events of this task and map index, oldest first."""
        return self._events.get(name, ())

    def of_try(self, task: TaskInstance) -> list[Recorded]:
        """Return the events of the row's last known try, oldest first."""
        if not task.try_number:
            return []
        of_task = [one for one in self.of((task.task_id, task.map_index)) if one.try_number == task.try_number]
        # The id of either may be unknown: then there is only one execution.
        return [
            one for one in of_task if not (one.instance_id and task.instance_id and one.instance_id != task.instance_id)
        ]

    def types_of_execution(self, task: TaskInstance) -> set[str]:
        """Return the types of the events that carry the row's own id."""
        of_task = self.of((task.task_id, task.map_index))
        return {one.type for one in of_task if one.instance_id is not None and one.instance_id == task.instance_id}

    @cached_property
    def _events(self) -> dict[Name, list[Recorded]]:
        named = Event.objects.filter(
            run=self._run,
            task_id__in={task_id for task_id, _ in self._names},
            data__map_index__in={UNMAPPED, *(map_index for _, map_index in self._names)},
            type__in=ENDS | {events.TaskStarted.type},
        )
        found: dict[Name, list[Recorded]] = defaultdict(list)
        for task_id, kind, at, data in named.order_by("seq").values_list("task_id", "type", "timestamp", "data"):
            one = Recorded(type=kind, at=at, try_number=data["try_number"], instance_id=data.get("instance_id"))
            found[task_id, data["map_index"]].append(one)
        return found


def fill(task: TaskInstance, history: History) -> None:
    """Read from the log what the row does not know of its last known try."""
    if task.start_recorded is None:
        of_try = history.of_try(task)
        task.start_recorded = any(one.type == events.TaskStarted.type for one in of_try)
        task.end_recorded = next((one.type for one in reversed(of_try) if one.type in ENDS), "")


def has_start(task: TaskInstance) -> bool:
    """Return whether the start of the row's last known try is recorded. What was never tried has none."""
    return bool(task.try_number and task.start_recorded)


def last_end(task: TaskInstance) -> str:
    """Return the type of the newest recorded end of the row's last known try, or ""."""
    return task.end_recorded if task.try_number else ""


def begin(task: TaskInstance, seen: types.TaskInstance) -> None:
    """Note that nothing is recorded of a new row, the only one of its task and map index."""
    task.start_recorded, task.end_recorded, task.recorded_from = False, "", seen.try_number


def follow(task: TaskInstance, history: History, *, try_number: int, instance_id: str) -> None:
    """Update what the row knows of the log. Before, it stood for the execution with this try and id."""
    is_other_id = bool(instance_id) and task.instance_id != instance_id
    if task.try_number == try_number and not is_other_id:
        return
    if task.recorded_from is None or task.try_number < try_number or (task.try_number == try_number and _has_any(task)):
        task.start_recorded, task.end_recorded, task.recorded_from = None, "", None
        fill(task, history)
        return
    if not _has_any(task) and task.recorded_from >= try_number:
        task.recorded_from = task.try_number
    task.start_recorded, task.end_recorded = False, ""


def _has_any(task: TaskInstance) -> bool:
    """Return whether the log holds an event of the row's last known try."""
    return bool(task.start_recorded or task.end_recorded)


def add(task: TaskInstance, recorded: Iterable[events.TaskEventData]) -> None:
    """Note the events that are recorded together with this state of the row."""
    for data in recorded:
        if data.try_number == task.try_number and task.start_recorded is not None:
            task.start_recorded |= data.type == events.TaskStarted.type
            task.end_recorded = data.type if data.type in ENDS else task.end_recorded


def has_earlier_start(task: TaskInstance, seen: types.TaskInstance, history: History) -> bool:
    """Return whether the start that Airflow shows of a try is that of an earlier one.

    An earlier try that had no process either has only its end in the log, with the time of its start.
    """
    if seen.start_date is None or not _may_have_earlier(task, seen.try_number):
        return False
    earlier = [one for one in history.of((seen.task_id, seen.map_index)) if one.try_number < seen.try_number]
    return any(
        (one.type == events.TaskStarted.type and one.at >= seen.start_date)
        or (one.type in WITHOUT_PROCESS and one.at == seen.start_date)
        for one in earlier
    )


def _may_have_earlier(task: TaskInstance, try_number: int) -> bool:
    """Return whether the log may hold events of a try before this one."""
    if task.recorded_from is None:
        return True
    return task.recorded_from < try_number and (task.recorded_from < task.try_number or _has_any(task))
