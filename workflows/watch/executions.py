"""Which stored task instance an observed one is.

Airflow 3 gives each execution of a task an id, and a new id to each retry and each clear. A loop repeats a task: its
executions have the same task, map index and try, and only the id tells them apart. Airflow 2.11 gives no id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from workflows.airflow import types
from workflows.models import Run, TaskInstance
from workflows.states import TASK_NOT_BEGUN

Pair = tuple[types.TaskInstance, TaskInstance]
# A task and its map index. In a loop, several rows have the same.
Name = tuple[str, int]
# The map index of a task that is not mapped, and of the placeholder that Airflow makes the first instance of one.
UNMAPPED = -1


class Tasks:
    """Stored task instances of one run, found by task and map index."""

    def __init__(self, rows: Iterable[TaskInstance] = ()) -> None:
        self._rows: dict[Name, list[TaskInstance]] = {}
        self._names: dict[int, Name] = {}
        for row in rows:
            self.put(row)

    def put(self, row: TaskInstance) -> None:
        """Add the row, or keep it under the map index that it has now."""
        if row in self:
            self.remove(row)
        name = self._names[id(row)] = row.task_id, row.map_index
        self._rows.setdefault(name, []).append(row)

    def remove(self, row: TaskInstance) -> None:
        name = self._names.pop(id(row))
        self._rows[name] = [other for other in self._rows[name] if other is not row]

    def of(self, name: Name) -> Sequence[TaskInstance]:
        return self._rows.get(name, ())

    def __contains__(self, row: TaskInstance) -> bool:
        return id(row) in self._names

    def __iter__(self) -> Iterator[TaskInstance]:
        return (row for rows in self._rows.values() for row in rows)


def pair(run: Run, known: Iterable[TaskInstance], observed: Sequence[types.TaskInstance]) -> list[Pair]:
    """Return each observed task instance with its row, which is not saved if the execution is new.

    A batch of pushes may show one execution several times: they share its row.
    """
    rows: dict[tuple[str, int], list[TaskInstance]] = defaultdict(list)
    for task in known:
        rows[task.task_id, task.map_index].append(task)
    first: dict[tuple[str, int, str], types.TaskInstance] = {}
    for seen in observed:
        first.setdefault(_execution(seen), seen)
    found = {_execution(seen): task or _new_row(run, seen) for seen, task in _rows_of(rows, list(first.values()))}
    return [(seen, found[_execution(seen)]) for seen in observed]


def _execution(seen: types.TaskInstance) -> tuple[str, int, str]:
    return seen.task_id, seen.map_index, seen.id or ""


def _new_row(run: Run, seen: types.TaskInstance) -> TaskInstance:
    return TaskInstance(run=run, task_id=seen.task_id, map_index=seen.map_index, instance_id=seen.id or "")


def _rows_of(
    rows: dict[tuple[str, int], list[TaskInstance]], observed: Sequence[types.TaskInstance]
) -> Iterable[tuple[types.TaskInstance, TaskInstance | None]]:
    """Yield the observed instances in their order. First come those whose id is known, so no other takes their rows."""
    found: dict[int, TaskInstance] = {}
    ids = {seen.id: number for number, seen in enumerate(observed) if seen.id}
    for of_key in rows.values():
        for task in [task for task in of_key if task.instance_id in ids]:
            found[ids[task.instance_id]] = task
            of_key.remove(task)
    others = [number for number in range(len(observed)) if number not in found]
    for number in sorted(others, key=lambda number: observed[number].id or "", reverse=True):
        seen = observed[number]
        free = rows.get((seen.task_id, seen.map_index), [])
        earlier = [task for task in free if continues(task, seen)]
        if earlier:
            found[number] = max(earlier, key=lambda task: (task.state == (seen.state or ""), task.pk))
            free.remove(found[number])
    return [(seen, found.get(number)) for number, seen in enumerate(observed)]


def continues(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether `seen`, which has another id, is a later state of the row: a retry or a clear of it.

    Airflow gives the new id as soon as a try waits for its retry or is cleared. Its number grows when it is scheduled.
    """
    if not task.instance_id or not seen.id:
        return True
    if seen.try_number != task.try_number or not seen.try_number:
        return seen.try_number >= task.try_number
    if task.state in TASK_NOT_BEGUN or (seen.state or "") in {"", "up_for_retry"}:
        return True
    # A clear keeps the start until the task starts again. So this one was cleared, and then marked or skipped.
    return seen.start_date is None or seen.start_date == task.started_at


def is_same(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether `seen` is the row's own execution and try. A task that never ran has the try 0 again and again."""
    if seen.try_number != task.try_number:
        return False
    return bool(seen.try_number) or not (task.instance_id and seen.id) or task.instance_id == seen.id


def identify(task: TaskInstance, seen: types.TaskInstance) -> None:
    """Store the id of a new execution. While a try waits for its retry, the row keeps the id of the try that failed."""
    if not is_same(task, seen):
        task.instance_id = seen.id or ""
    elif seen.id and (not task.instance_id or task.state in TASK_NOT_BEGUN):
        task.instance_id = seen.id


def is_superseded(seen: types.TaskInstance, known: Tasks) -> bool:
    """Return whether a newer execution of the task is known than `seen`, a push about one that is not stored.

    Airflow's ids are ordered by time.
    """
    return bool(seen.id) and any(
        task.instance_id > (seen.id or "") for task in known.of((seen.task_id, seen.map_index))
    )
