"""Task instances as observed in Airflow: what is stored of them, and which events must have happened in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from workflows.airflow import types
from workflows.eventlog import events
from workflows.models import Run, TaskInstance
from workflows.states import TASK_KNOWN, TASK_STARTED, TASK_TRY_ENDED, RunState
from workflows.watch import executions, questions, recorded
from workflows.watch.executions import Pair, Tasks
from workflows.watch.observation import Observation, columns_of, differs
from workflows.watch.recorded import History


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """An event of a task instance. `at` is None when Airflow gives no time for it."""

    at: datetime | None
    ends: bool
    task_id: str
    data: events.TaskEventData


def in_order(changes: Iterable[TaskChange], run: Run, observation: Observation) -> list[tuple[datetime, TaskChange]]:
    """Return the changes with their times, oldest first. A change without a time comes last."""
    timed = [(_time_of(change, run), change) for change in changes]
    # The poll began at `observation.at`. What it showed may have happened later.
    latest = max([observation.at, *(at for at, _ in timed if at)])
    in_order = sorted(timed, key=lambda one: (one[0] or latest, one[1].ends, one[0] is None))
    return [(at or latest, change) for at, change in in_order]


def _time_of(change: TaskChange, run: Run) -> datetime | None:
    """Return the change's own time. In Airflow 2.11, a task skipped again after a clear has the times of the first."""
    is_of_earlier_attempt = change.at and run.attempt > 1 and run.started_at and change.at < run.started_at
    return None if is_of_earlier_attempt else change.at


def update_task(
    task: TaskInstance,
    seen: types.TaskInstance,
    known: Tasks,
    history: History,
    *,
    asked: types.Question | None = None,
) -> list[TaskChange]:
    """Update a task instance to what was observed. Return the changes that must have happened to it since.

    `asked` is what it has asked a person meanwhile, with the answer. A new row becomes one of `known`. The caller saves
    the row if `differs` was true, or if there are changes.
    """
    others = known.of((seen.task_id, seen.map_index))
    is_new = task not in known
    _prepare(task, seen, history, is_new=is_new, is_alone=not others)
    columns = columns_of(seen, task)
    is_older = _shows_an_earlier_start(task, seen, history)
    duration_s = None if is_older else _seconds(columns["started_at"], seen.end_date)
    never_ran = seen.never_ran or is_older
    is_relabelled = _is_relabelled(task, seen)
    changes = [] if is_relabelled else list(_changes_of(task, seen, never_ran=never_ran, duration_s=duration_s))
    if is_new and others:
        # Perhaps they were recorded of this execution when another row stood for it.
        known_types = history.types_of_execution(task) if changes else set()
        changes = [change for change in changes if change.data.type not in known_types]
    if differs(task, seen):
        _store(task, seen, columns, history, has_process=not (never_ran or is_relabelled))
        if asked and task.question is None and any(change.ends for change in changes):
            task.question = questions.with_answer(asked)
            changes += _conversation(task, asked, latest=seen.end_date)
    known.put(task)
    recorded.add(task, [change.data for change in changes])
    return changes


def _prepare(task: TaskInstance, seen: types.TaskInstance, history: History, *, is_new: bool, is_alone: bool) -> None:
    """Let the row know what is recorded of it."""
    if not is_new:
        recorded.fill(task, history)
    elif is_alone:
        recorded.begin(task, seen)


def _store(
    task: TaskInstance, seen: types.TaskInstance, columns: dict[str, Any], history: History, *, has_process: bool
) -> None:
    try_number, instance_id = task.try_number, task.instance_id
    if not executions.is_same(task, seen):
        task.question = None
    executions.identify(task, seen)
    if seen.state == "failed" and not has_process:
        # No process any more, so no exit proof is needed.
        task.receipt_try = seen.try_number
    elif seen.state in TASK_STARTED:
        task.receipt_try = 0
    for name, value in columns.items():
        setattr(task, name, value)
    recorded.follow(task, history, try_number=try_number, instance_id=instance_id)


def _conversation(task: TaskInstance, asked: types.Question, *, latest: datetime | None) -> Iterator[TaskChange]:
    """Yield the question and the answer of a task that has ended since, both between its start and its end."""

    def between(at: datetime | None) -> datetime | None:
        # The times may come from the clocks of two machines.
        bounded = min(at, latest) if at and latest else at
        return max(bounded, task.started_at) if bounded and task.started_at else bounded

    for at, data in questions.told_late(task, asked):
        yield TaskChange(at=between(at), ends=False, task_id=task.task_id, data=data)


def _seconds(started_at: datetime | None, ended_at: datetime | None) -> float | None:
    """Return the seconds between two times, which may come from the clocks of two machines."""
    return max((ended_at - started_at).total_seconds(), 0.0) if started_at and ended_at else None


def _shows_an_earlier_start(task: TaskInstance, seen: types.TaskInstance, history: History) -> bool:
    """Return whether Airflow ended this try before it had a process, and still shows the start of an earlier one."""
    if seen.try_number < 1 or seen.state not in TASK_TRY_ENDED or _has_begun(task, seen):
        return False
    return recorded.has_earlier_start(task, seen, history)


def _is_relabelled(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether a stop has made a success a failure: nothing happened to the task itself.

    When Airflow ends a run, and one instance of a mapped task is at work, it fails all instances of that task.
    """
    is_stopped = task.run.state in {RunState.STOPPING, RunState.STOPPED}
    return is_stopped and executions.is_same(task, seen) and task.state == "success" and seen.state == "failed"


def _changes_of(
    task: TaskInstance, seen: types.TaskInstance, *, never_ran: bool, duration_s: float | None
) -> Iterator[TaskChange]:
    state = seen.state or ""
    same_try = executions.is_same(task, seen)
    begun = state in _BEGUN or state not in TASK_KNOWN
    if seen.try_number > task.try_number and _is_under_way(task):
        # Its end was missed. It was not the last try, because there is a further one.
        ended_at = seen.start_date if begun else seen.end_date
        missed = events.TaskRetrying(
            state="up_for_retry",
            map_index=task.map_index,
            try_number=task.try_number,
            instance_id=task.instance_id or None,
        )
        yield TaskChange(at=ended_at, ends=False, task_id=seen.task_id, data=missed)
    if begun and seen.start_date and not never_ran and not _has_begun(task, seen):
        started = events.TaskStarted(**_fields_of(task, seen, state="running"), started_at=seen.start_date)
        yield TaskChange(at=seen.start_date, ends=False, task_id=seen.task_id, data=started)
    ending = _ENDINGS.get(state)
    if ending and not (same_try and (task.state == state or _repeats_an_end(task, ending))):
        # The two times may come from the clocks of two machines.
        ended_at = max(seen.end_date, seen.start_date or seen.end_date) if seen.end_date else None
        data = ending(**_fields_of(task, seen, state=state), duration_s=duration_s)
        yield TaskChange(at=ended_at, ends=True, task_id=seen.task_id, data=data)


_BEGUN = TASK_STARTED | {"success", "failed", "up_for_retry"}


def _has_begun(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether the start of this try has been recorded. The state alone is no help to a deferred task."""
    return executions.is_same(task, seen) and (task.state in _BEGUN or recorded.has_start(task))


def _is_under_way(task: TaskInstance) -> bool:
    """Return whether the start of its last known try has been recorded, and no end."""
    if task.state in TASK_STARTED:
        return True
    if task.state in TASK_TRY_ENDED:
        return False
    return recorded.has_start(task) and not recorded.last_end(task)


def _repeats_an_end(task: TaskInstance, ending: type[events.TaskEventData]) -> bool:
    """Return whether the end of its last known try is recorded, and `ending` adds nothing to it.

    Someone may mark a task that has ended; that is another end. But a try that has ended is not tried again later, and
    the process of a stopped task may report its own end after Airflow has marked the task.
    """
    if task.state not in TASK_TRY_ENDED:
        return False
    last = recorded.last_end(task)
    return bool(last) and (last == ending.type or ending is events.TaskRetrying)


_ENDINGS: dict[str, type[events.TaskEventData]] = {
    "success": events.TaskCompleted,
    "failed": events.TaskFailed,
    "up_for_retry": events.TaskRetrying,
    "skipped": events.TaskSkipped,
    "upstream_failed": events.TaskSkipped,
    "removed": events.TaskSkipped,
}


class _TaskFields(TypedDict):
    state: str
    map_index: int
    try_number: int
    instance_id: str | None


def _fields_of(task: TaskInstance, seen: types.TaskInstance, *, state: str) -> _TaskFields:
    """Return the fields of each event. All events of one try carry the id that it started with."""
    instance_id = task.instance_id if executions.is_same(task, seen) else seen.id
    ids = instance_id or seen.id or None
    return {"state": state, "map_index": seen.map_index, "try_number": seen.try_number, "instance_id": ids}


def vanished(known: Tasks, pairs: Iterable[Pair]) -> list[TaskInstance]:
    """Return what Airflow no longer has, such as the placeholder of a mapped task that was expanded."""
    present = {id(task) for _, task in pairs}
    return [task for task in known if id(task) not in present]
