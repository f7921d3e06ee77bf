"""Where push and poll meet: what was seen of a run in Airflow becomes state and events. Nothing else moves a
run along in Airflow's name. A repeat, or an older view than the last, changes nothing.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from svops.times import iso
from workflows import backoff, events, freezing, receipt
from workflows.airflow import types
from workflows.models import AirflowCommand, CommandKind, Run, RunAttempt, TaskInstance
from workflows.states import TASK_OVER, TASK_STARTED, TASK_TERMINAL, TERMINAL, RunState

AIRFLOW_TERMINAL = {"success": RunState.SUCCESS, "failed": RunState.FAILED}


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at Airflow showed of one run.

    `at` is our own clock before the look. `run` is None where only tasks were looked at. `all_tasks` says that
    `tasks` are all there are and were looked at after `run`, as they have to be when `run` has ended and they are
    not known to have ended already (`_is_known_whole`). `pushed` says that Airflow told it by itself: such news come
    from several processes, in no order, so each is judged against what is known of its own task.
    """

    at: datetime
    run: types.DagRun | None = None
    tasks: Sequence[types.TaskInstance] = ()
    all_tasks: bool = False
    pushed: bool = False


Known = dict[tuple[str, int], TaskInstance]


@transaction.atomic
def observe(run_id: uuid.UUID, sight: Sight) -> bool:
    """Bring our view of a run up to `sight`, with an event for each thing that happened since the last one.

    False when the end of the run is in sight and has to wait: not all of its tasks are known to be over.
    """
    run = Run.objects.select_for_update().get(pk=run_id)
    if _is_outdated(run, sight):
        return True
    known = {(task.task_id, task.map_index): task for task in run.tasks.all()}
    if sight.run:
        _begin(run, sight.run, at=sight.at)
    happenings = [h for seen in _tellable(run, sight, known) for h in _note_task(run, seen, known)]
    for at, happening in _in_order(happenings, run, sight):
        events.record(happening.data, now=at, run=run, task_id=happening.task_id)
    if sight.all_tasks:
        _forget_vanished(known, sight.tasks)
    end = sight.run if sight.run and sight.run.state in AIRFLOW_TERMINAL else None
    may_end = end is None or sight.all_tasks or (sight.pushed and _is_known_whole(run, known.values()))
    if end and may_end:
        _end(run, end, known, at=sight.at)
    Run.objects.filter(pk=run.pk).update(observed_at=max(sight.at, run.observed_at or sight.at))
    return may_end


def _is_known_whole(run: Run, tasks: Collection[TaskInstance]) -> bool:
    """Whether each task of the run's DAG is known to be over, so that its end can be told without asking for them.

    Never so of a mapped task, whose instances nobody has counted; of a retry, whose tasks begin with the states of
    the attempt before; of a stop, which is no matter of these states alone.
    """
    if run.state != RunState.RUNNING or run.attempt > 1 or not all(task.state in TASK_TERMINAL for task in tasks):
        return False
    of_dag = {task["task_id"] for task in run.workflow.dag.tasks}
    return bool(of_dag) and of_dag <= {task.task_id for task in tasks if task.map_index < 0}


def may_be_news(run: Run, sight: Sight) -> bool:
    """Whether `sight` differs from what is known; a look shows everything of the last ten seconds again."""
    known = {(task.task_id, task.map_index): task for task in run.tasks.all()}
    if any(_differs(known.get((seen.task_id, seen.map_index)), seen) for seen in sight.tasks):
        return True
    if sight.run is None:
        return False
    if sight.run.state == "queued":
        return run.state == RunState.PENDING or run.state in TERMINAL
    return sight.run.state == "running" and run.state not in {RunState.RUNNING, RunState.STOPPING}


def _differs(task: TaskInstance | None, seen: types.TaskInstance) -> bool:
    return task is None or any(getattr(task, name) != value for name, value in _stored(seen).items())


def _stored(seen: types.TaskInstance) -> dict[str, Any]:
    """What is stored of a task instance."""
    return {
        "state": seen.state or "",
        "try_number": seen.try_number,
        "max_tries": seen.max_tries,
        "operator": seen.operator or "",
        "started_at": seen.start_date,
        "ended_at": seen.end_date,
    }


def _is_outdated(run: Run, sight: Sight) -> bool:
    if run.observed_at and sight.at < run.observed_at and not sight.pushed:
        return True
    # Until Airflow has cleared what is to be retried, it still shows the end that the retry undoes.
    return AirflowCommand.objects.filter(run=run, kind=CommandKind.CLEAR, finished_at__isnull=True).exists()


def _tellable(run: Run, sight: Sight, known: Known) -> Iterator[types.TaskInstance]:
    """The tasks whose turn it is: until the run itself was seen to start, a started task waits for the next look."""
    waits = run.state in {RunState.PENDING, RunState.QUEUED}
    for seen in sight.tasks:
        if waits and (seen.state or "") in TASK_STARTED | TASK_OVER:
            continue
        if not _is_behind(seen, known.get((seen.task_id, seen.map_index)), pushed=sight.pushed):
            yield seen


def _is_behind(seen: types.TaskInstance, task: TaskInstance | None, *, pushed: bool) -> bool:
    """Whether more is known of the task already.

    Airflow pushes an end before it stores it, so a look right after a push may show the task still at work. A
    push itself may have been overtaken by a later one.
    """
    if task is None or seen.try_number > task.try_number:
        return False
    same_try = seen.try_number == task.try_number
    if same_try and task.state in TASK_OVER:
        return (seen.state or "") in TASK_STARTED | {"scheduled", "queued"} or (pushed and seen.state == task.state)
    return pushed and not same_try


def move(run: Run, *, to: RunState, **changes: Any) -> bool:
    """`Run.objects.move` that keeps `run` itself up to date."""
    if not Run.objects.move(run.pk, to=to, **changes):
        return False
    for name, value in (changes | {"state": to}).items():
        setattr(run, name, value)
    return True


def _begin(run: Run, seen: types.DagRun, *, at: datetime) -> None:
    if run.state in TERMINAL and begins_again(run, seen):
        _reopen(run, at=at)
    if run.state == RunState.STOPPING and run.ended_at and begins_again(run, seen):
        # Tasks were cleared in Airflow: what it had ended goes on.
        run.ended_at = None
        run.save(update_fields=["ended_at"])
    if run.state == RunState.PENDING:
        move(run, to=RunState.QUEUED, queued_at=seen.queued_at or at)
    if run.state == RunState.QUEUED and seen.state != "queued":
        started_at = seen.start_date or at
        move(run, to=RunState.RUNNING, started_at=started_at, ended_at=None)
        _record_start(run, started_at)
    elif run.state == RunState.STOPPING and run.started_at is None and seen.start_date:
        run.started_at = seen.start_date
        run.save(update_fields=["started_at"])
        _record_start(run, seen.start_date)


def _record_start(run: Run, started_at: datetime) -> None:
    data = events.WorkflowStarted(state=run.state, attempt=run.attempt, started_at=iso(started_at))
    events.record(data, now=started_at, run=run)


def begins_again(run: Run, seen: types.DagRun) -> bool:
    """Whether what was seen of an ended run is a new life of it, and not late news of the one that is over."""
    if seen.start_date is None or run.ended_at is None:
        return seen.state not in AIRFLOW_TERMINAL
    return seen.start_date > run.ended_at


def reopen(run: Run) -> bool:
    """Begin a new attempt of an ended run, keeping what is known of the one before; tell whether it could be."""
    before = RunAttempt(
        run=run,
        number=run.attempt,
        state=run.state,
        state_reason=run.state_reason,
        failed_tasks=sorted(str(task) for task in run.tasks.all() if task.state == "failed"),
        started_at=run.started_at,
        ended_at=run.ended_at,
    )
    fresh: dict[str, Any] = {"state_reason": "", "started_at": None, "ended_at": None, "stop_requested_at": None}
    if not move(run, to=RunState.QUEUED, attempt=run.attempt + 1, **fresh):
        return False
    before.save()
    return True


def _reopen(run: Run, *, at: datetime) -> None:
    """Somebody has cleared tasks of an ended run in Airflow itself."""
    reopen(run)
    data = events.WorkflowExternalChange(state=run.state, attempt=run.attempt, change="cleared")
    events.record(data, now=at, run=run)
    freezing.freeze_if_dag_paused(run, now=at)


def _end(run: Run, seen: types.DagRun, known: Known, *, at: datetime) -> None:
    ended_at = seen.end_date or at
    if run.state == RunState.STOPPING:
        if all(task.state in TASK_TERMINAL for task in known.values()):
            _note_carried_out(run, known, at=ended_at)
        else:
            _owe_stop_again(run, at=at)
        return
    to = AIRFLOW_TERMINAL[seen.state]
    was_terminal = run.state in TERMINAL
    if run.state == to or not move(run, to=to, ended_at=ended_at, state_reason=""):
        return
    if was_terminal:
        change = events.WorkflowExternalChange(state=run.state, attempt=run.attempt, change="marked")
        events.record(change, now=at, run=run)
    record_end(run, failed_tasks=sorted(str(t) for t in known.values() if t.state == "failed"), now=ended_at)


def record_end(run: Run, *, failed_tasks: list[str], now: datetime) -> None:
    """Record that a run has come to its end by itself: completed or failed."""
    duration = run.duration()
    common: dict[str, Any] = {
        "state": run.state,
        "attempt": run.attempt,
        "duration_s": duration.total_seconds() if duration else None,
    }
    if run.state == RunState.SUCCESS:
        events.record(events.WorkflowCompleted(**common), now=now, run=run)
        return
    if not run.state_reason:
        run.state_reason = f"failed in Airflow: {', '.join(failed_tasks)}" if failed_tasks else "failed in Airflow"
        run.save(update_fields=["state_reason"])
    data = events.WorkflowFailed(**common, reason=run.state_reason, failed_tasks=failed_tasks)
    events.record(data, now=now, run=run)


def _note_carried_out(run: Run, known: Known, *, at: datetime) -> None:
    """Airflow has ended the run: it is over where no receipt is missing, else these are asked for."""
    if not receipt.missing(known.values()):
        finish_stop(run, at=at)
    elif run.ended_at is None:
        run.ended_at = _not_before_its_tasks(run, at)
        run.save(update_fields=["ended_at"])


def _owe_stop_again(run: Run, *, at: datetime) -> None:
    """Airflow has ended the run and let a task go on: one whose start the stop met is neither failed nor skipped.

    Told to stop once more, Airflow ends it. That is the same command, so each further time is waited for longer;
    what was seen before it was carried out is no reason for it.
    """
    stop = run.commands.filter(kind=CommandKind.STOP).last()
    if stop and stop.finished_at and stop.finished_at < at:
        stop.finished_at = None
        stop.due_at = at + backoff.delay(stop.attempts, jitter=random.random())  # noqa: S311 - spreads load only
        stop.save(update_fields=["finished_at", "due_at"])


@transaction.atomic
def note_receipts(run_id: uuid.UUID, receipts: Sequence[receipt.Receipt]) -> None:
    """Processes of a stopped run are gone; with the last one missing the stop is complete."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state != RunState.STOPPING or run.ended_at is None:
        return
    for given in receipts:
        run.tasks.filter(pk=given.task.pk).update(receipt_try=given.task.try_number)
    if presumed := sorted(str(given.task) for given in receipts if not given.proven):
        run.state_reason += f" (nothing was heard of {', '.join(presumed)} for {settings.STOP_SILENCE:g} s)"
        run.save(update_fields=["state_reason"])
    if not receipt.missing(run.tasks.all()):
        finish_stop(run, at=max(run.ended_at, *(given.at for given in receipts)))


def finish_stop(run: Run, *, at: datetime) -> bool:
    """Record that a stop is complete; tell whether it was this call that did it."""
    at = _not_before_its_tasks(run, at)
    if not move(run, to=RunState.STOPPED, ended_at=at):
        return False
    data = events.WorkflowStopped(state=run.state, attempt=run.attempt, note=run.state_reason)
    events.record(data, now=at, run=run)
    return True


def _not_before_its_tasks(run: Run, at: datetime) -> datetime:
    """`at`, or the end of the last task if that is later: Airflow may end a run while one of its tasks goes on."""
    last: datetime | None = run.tasks.aggregate(last=Max("ended_at"))["last"]
    return max(at, last or at)


@dataclass(frozen=True, kw_only=True)
class _Happening:
    at: datetime | None
    ends: bool
    task_id: str
    data: events.TaskEventData


def _in_order(happenings: Iterable[_Happening], run: Run, sight: Sight) -> list[tuple[datetime, _Happening]]:
    """When each happened, oldest first. One without a time of its own is told when the others have been."""
    timed = [(_time_of(happening, run), happening) for happening in happenings]
    # Not simply the time of the look, which is when it began: what it showed may have happened since.
    latest = max([sight.at, *(at for at, _ in timed if at)])
    in_order = sorted(timed, key=lambda one: (one[0] or latest, one[1].ends, one[0] is None))
    return [(at or latest, happening) for at, happening in in_order]


def _time_of(happening: _Happening, run: Run) -> datetime | None:
    """Its own time. A task of 2.11 that is skipped once more after a clear has the times of the first time."""
    is_of_before = happening.at and run.attempt > 1 and run.started_at and happening.at < run.started_at
    return None if is_of_before else happening.at


def _note_task(run: Run, seen: types.TaskInstance, known: Known) -> list[_Happening]:
    """Store what was seen of a task instance and list what must have happened to it since."""
    key = (seen.task_id, seen.map_index)
    task = known.setdefault(key, TaskInstance(run=run, task_id=seen.task_id, map_index=seen.map_index))
    happened = list(_happened_to(task, seen))
    if task.pk is None or _differs(task, seen):
        for name, value in _stored(seen).items():
            setattr(task, name, value)
        task.save()
    return happened


def _happened_to(task: TaskInstance, seen: types.TaskInstance) -> Iterator[_Happening]:
    state = seen.state or ""
    same_try = task.try_number == seen.try_number
    begun = state in _BEGUN
    if seen.try_number > task.try_number and _is_under_way(task):
        # Its end was missed: had it been the last try, there would be no further one.
        ended_at = seen.start_date if begun else seen.end_date
        yield _happening(events.TaskRetrying, seen, at=ended_at, state="up_for_retry", try_number=task.try_number)
    if begun and seen.start_date and not _has_begun(task, seen):
        started_at = iso(seen.start_date)
        yield _happening(events.TaskStarted, seen, at=seen.start_date, state="running", started_at=started_at)
    ending = _ENDINGS.get(state)
    if ending and not (same_try and task.state == state):
        # The two times may come from the clocks of two machines.
        ended_at = max(seen.end_date, seen.start_date or seen.end_date) if seen.end_date else None
        yield _happening(ending, seen, at=ended_at, ends=True, duration_s=seen.duration)


_BEGUN = TASK_STARTED | {"success", "failed", "up_for_retry"}


def _has_begun(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Whether the beginning of this try has been told."""
    same_try = task.try_number == seen.try_number
    return same_try and (task.state in _BEGUN or events.TaskStarted.type in _told(task))


def _is_under_way(task: TaskInstance) -> bool:
    """Whether the beginning of its last known try has been told, and no end."""
    return task.state in TASK_STARTED or (task.state not in TASK_OVER and _told(task) == {events.TaskStarted.type})


def _told(task: TaskInstance) -> set[str]:
    """What has been told of its last known try: one that was deferred or rescheduled looks as if it had not begun."""
    if not task.try_number:
        return set()
    of_try = {"task_id": task.task_id, "data__map_index": task.map_index, "data__try_number": task.try_number}
    return set(task.run.events.filter(**of_try).values_list("type", flat=True))


_ENDINGS: dict[str, type[events.TaskEventData]] = {
    "success": events.TaskCompleted,
    "failed": events.TaskFailed,
    "up_for_retry": events.TaskRetrying,
    "skipped": events.TaskSkipped,
    "upstream_failed": events.TaskSkipped,
    "removed": events.TaskSkipped,
}


def _happening(
    kind: type[events.TaskEventData],
    seen: types.TaskInstance,
    *,
    at: datetime | None,
    ends: bool = False,
    **data: Any,
) -> _Happening:
    common: dict[str, Any] = {"state": seen.state or "", "map_index": seen.map_index, "try_number": seen.try_number}
    return _Happening(at=at, ends=ends, task_id=seen.task_id, data=kind(**common | data))


def _forget_vanished(known: Known, seen: Sequence[types.TaskInstance]) -> None:
    """Drop task instances that are no more, as the placeholder of a mapped task once it has been expanded."""
    present = {(task.task_id, task.map_index) for task in seen}
    for key in known.keys() - present:
        known.pop(key).delete()


@transaction.atomic
def note_deleted(run_id: uuid.UUID, *, at: datetime) -> None:
    """Somebody has deleted the run in Airflow: it can not go on, and nothing of it can be learnt any more."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if _is_outdated(run, Sight(at=at)) or run.state in TERMINAL:
        return
    data = events.WorkflowExternalChange(state=run.state, attempt=run.attempt, change="deleted")
    events.record(data, now=at, run=run)
    if run.state == RunState.STOPPING:
        finish_stop(run, at=at)
    elif move(run, to=RunState.FAILED, ended_at=at, state_reason="deleted in Airflow"):
        record_end(run, failed_tasks=[], now=at)


@transaction.atomic
def note_stop_incomplete(run_id: uuid.UUID, *, at: datetime) -> None:
    """Name the task instances that still run after the deadline of a stop."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state != RunState.STOPPING:
        return
    still = [str(task) for task in receipt.missing(run.tasks.all())]
    data = events.WorkflowStopIncomplete(state=run.state, attempt=run.attempt, still_running=still)
    events.record(data, now=at, run=run)
