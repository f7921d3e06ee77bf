"""Where polls and pushes meet: an observation of a run in Airflow becomes state and events.

Nothing else moves a run to follow Airflow. A repeated or outdated observation changes nothing. Runs are observed in
batches: what is known of them is read, what follows is decided in memory, and all of it is written together.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.db import InterfaceError, OperationalError, transaction

from workflows.airflow import types
from workflows.dispatch import commands
from workflows.eventlog import events
from workflows.lifecycle import deletions, freezing, moves
from workflows.models import Run, TaskInstance
from workflows.states import TASK_ALIVE, TERMINAL, RunState
from workflows.watch import executions, stops
from workflows.watch.executions import Tasks
from workflows.watch.known import Known, batches, lock
from workflows.watch.observation import (
    AIRFLOW_TERMINAL,
    Observation,
    all_tasks_have_ended,
    begins_again,
    differs,
    is_outdated,
    of_this_attempt,
    recordable,
    times_in_airflow,
)
from workflows.watch.tasks import in_order, update_task, vanished
from workflows.watch.writes import Writes

logger = logging.getLogger(__name__)

# How long the end of a run waits for the ends of its tasks. Airflow cuts them off within a second or two.
END_SETTLES = timedelta(seconds=15)
# A transaction locks so many runs at most, so others wait for their locks for a moment only.
BATCH = 50


def observe(run_id: uuid.UUID, observation: Observation) -> bool:
    """Update a run to what was observed, with an event for each change since the last observation.

    Return False when the run has ended in Airflow but its end has to wait, because not all of its tasks are known to
    have ended.
    """
    return not _observe_together({run_id: observation})


def observe_all(observations: Mapping[uuid.UUID, Observation]) -> set[uuid.UUID]:
    """Observe many runs, a batch in one transaction. Return those whose end has to wait.

    If a batch fails, its runs are observed one by one, so a run that cannot be written does not hold up the others. It
    is logged, and the sweep tries it again. Raises `OperationalError` if the database fails.
    """
    waiting: set[uuid.UUID] = set()
    for batch in batches(observations.items(), BATCH):
        try:
            waiting |= _observe_together(dict(batch))
        except Exception:
            # Two batches that wait for each other's locks end here too.
            logger.warning("runs are observed one by one", extra={"runs": len(batch)}, exc_info=True)
            waiting |= _observe_one_by_one(dict(batch))
    return waiting


def _observe_one_by_one(observations: Mapping[uuid.UUID, Observation]) -> set[uuid.UUID]:
    waiting: set[uuid.UUID] = set()
    for run_id, observation in observations.items():
        try:
            waiting |= _observe_together({run_id: observation})
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("run not observed", extra={"run_id": str(run_id)})
    return waiting


@transaction.atomic
def _observe_together(observations: Mapping[uuid.UUID, Observation]) -> set[uuid.UUID]:
    """Observe these runs in one transaction. Return those whose end has to wait."""
    writes = Writes()
    known = lock(observations)
    waiting = {of_run.run.pk for of_run in known if not _observe(of_run, observations[of_run.run.pk], writes)}
    writes.flush()
    return waiting


def _observe(known: Known, observation: Observation, writes: Writes) -> bool:
    """Decide what follows from an observation. Return False when the end of the run has to wait."""
    run, tasks = known.run, known.tasks
    if is_outdated(run, observation, waits_for_clear=known.waits_for_clear):
        return True
    observation = of_this_attempt(observation, known.last_attempt)
    if observation.run:
        tasks = _begin(known, observation.run, writes, at=observation.at, pushed=observation.pushed)
        _stop_if_it_goes_on(run, observation.run, writes, at=observation.at, pushed=observation.pushed)
    _observe_tasks(known, tasks, observation, writes)
    _stop_what_goes_on(run, tasks, writes, at=observation.at)
    end = observation.end
    may_end = end is None or observation.all_tasks or (observation.pushed and all_tasks_have_ended(run, tasks))
    if end and may_end and _is_settled(run, tasks, writes, at=observation.at):
        _end(known, end, tasks, writes, observation)
    writes.set(run, observed_at=max(observation.at, run.observed_at or observation.at))
    return may_end


def _observe_tasks(known: Known, tasks: Tasks, observation: Observation, writes: Writes) -> None:
    run = known.run
    pairs = executions.pair(run, tasks, observation.tasks)
    changes = []
    for seen, task in list(recordable(run, observation, pairs, tasks)):
        is_changed = differs(task, seen)
        asked = observation.questions.get(seen.id or "")
        of_task = update_task(task, seen, tasks, known.history, asked=asked)
        if is_changed or of_task:
            writes.save(task)
        changes += of_task
    for at, change in in_order(changes, run, observation):
        writes.record(run, change.data, at=at, task_id=change.task_id)
    if observation.all_tasks:
        for task in vanished(tasks, pairs):
            tasks.remove(task)
            writes.delete(task)


def _begin(known: Known, seen: types.DagRun, writes: Writes, *, at: datetime, pushed: bool) -> Tasks:
    """Follow the begin of the run. Return the tasks that are known now."""
    run, tasks = known.run, known.tasks
    if run.state in TERMINAL and begins_again(run, seen):
        tasks = _reopen(known, writes, at=at)
    if run.state == RunState.PENDING:
        writes.move(run, to=RunState.QUEUED, queued_at=seen.queued_at or at)
        _release(run, writes, at=at)
    # Only these say so: a run that was marked in Airflow while it was queued has an end, and has never started.
    has_begun = seen.state == "running" or seen.start_date is not None
    if run.state == RunState.QUEUED and seen.state != "queued" and has_begun:
        started_at = seen.start_date or at
        writes.move(run, to=RunState.RUNNING, started_at=started_at, ended_at=None)
        _record_start(run, started_at, writes)
    elif run.state in {RunState.RUNNING, RunState.STOPPING} and seen.start_date:
        _follow_start(run, seen.start_date, writes, pushed=pushed)
    return tasks


def _follow_start(run: Run, start_date: datetime, writes: Writes, *, pushed: bool) -> None:
    """Take Airflow's start over.

    A later one shows that the run ended, was cleared in Airflow and began again between two polls. The known one may be
    wrong if the listener pushed it: Airflow had not committed it yet, and may have begun the run anew.
    """
    known = run.started_at
    if known is not None and (start_date == known or (pushed and start_date < known)):
        return
    writes.set(run, started_at=start_date)
    if known is None:
        _record_start(run, start_date, writes)


def _release(run: Run, writes: Writes, *, at: datetime) -> None:
    """Release a trigger that was held after a try which had reached Airflow after all: there the run goes on."""
    if commands.hold_trigger(run, held=False, now=at):
        writes.flush()
        freezing.set_paused([run], paused=False, scope="run", note="Airflow had it already", by="Airflow", now=at)


def _stop_if_it_goes_on(run: Run, seen: types.DagRun, writes: Writes, *, at: datetime, pushed: bool) -> None:
    """Stop a stopping run again if somebody has cleared tasks of it in Airflow since, so that it goes on there."""
    if run.state != RunState.STOPPING:
        return
    if run.ended_at and begins_again(run, seen):
        writes.set(run, ended_at=None)
    # A push may be older than the stop.
    if not pushed and seen.state not in AIRFLOW_TERMINAL:
        commands.repeat_stop(run, at=at)


def _record_start(run: Run, started_at: datetime, writes: Writes) -> None:
    writes.record(run, events.WorkflowStarted(**events.fields_of(run), started_at=started_at), at=started_at)


def _reopen(known: Known, writes: Writes, *, at: datetime) -> Tasks:
    """Record that somebody has cleared tasks of an ended run in Airflow, or used the id of a deleted run again.

    Return the tasks that are known now: nothing of a deleted run is left.
    """
    run = known.run
    writes.flush()
    recreated = deletions.was_deleted(run)
    moves.reopen(run)
    if recreated:
        run.tasks.all().delete()
    data = events.WorkflowExternalChange(**events.fields_of(run), change="recreated" if recreated else "cleared")
    events.record(data, now=at, run=run)
    freezing.freeze_if_dag_paused(run, now=at)
    return Tasks() if recreated else known.tasks


def _stop_what_goes_on(run: Run, known: Iterable[TaskInstance], writes: Writes, *, at: datetime) -> None:
    """Stop a run again if Airflow has ended it and one of its tasks goes on all the same, or still may start."""
    if run.state not in {RunState.STOPPING, RunState.STOPPED} or run.ended_at is None:
        return
    if any(task.state in TASK_ALIVE for task in known):
        commands.repeat_stop(run, at=at)
        if run.state == RunState.STOPPING:
            # What was known of its end has to be confirmed again.
            writes.set(run, ended_at=None)


def _is_settled(run: Run, known: Iterable[TaskInstance], writes: Writes, *, at: datetime) -> bool:
    """Return whether the end that Airflow shows is to be recorded now.

    Airflow ends a run before it ends those of its tasks that it cuts off, so the end waits for the tasks, for
    `END_SETTLES` at most.
    """
    if run.state in TERMINAL | {RunState.STOPPING} or all(task.has_ended for task in known):
        return True
    if run.end_seen_at is None:
        writes.set(run, end_seen_at=at)
    return at - (run.end_seen_at or at) >= END_SETTLES


def _end(known: Known, seen: types.DagRun, tasks: Tasks, writes: Writes, observation: Observation) -> None:
    run, at, pushed = known.run, observation.at, observation.pushed
    ended_at = seen.end_date or at
    if run.state == RunState.STOPPING:
        _end_stop(run, tasks, writes, ended_at=ended_at, at=at)
        return
    to = AIRFLOW_TERMINAL[seen.state]
    was_terminal = run.state in TERMINAL
    # If its DAG is paused still, it was marked in Airflow while it was frozen.
    if run.paused and run.state != to and not freezing.is_dag_paused(run):
        writes.flush()
        freezing.set_paused([run], paused=False, scope="workflow", note="", by="Airflow", now=ended_at)
    if run.state == to and not pushed:
        # Airflow may have failed to commit the times that its listener pushed.
        writes.set(run, **dict(zip(("started_at", "ended_at"), times_in_airflow(run, seen), strict=True)))
    failed_tasks = sorted(str(task) for task in tasks if task.state == "failed")
    reason = moves.why_failed(failed_tasks) if to == RunState.FAILED else ""
    if run.state == to or not writes.move(run, to=to, ended_at=ended_at, state_reason=reason):
        return
    if was_terminal:
        writes.record(run, events.WorkflowExternalChange(**events.fields_of(run), change="marked"), at=at)
    result = None
    if to == RunState.SUCCESS and known.result_task:
        result = writes.result(run, known.result_task, observation.result, at=at)
    writes.record(run, moves.end_of(run, failed_tasks=failed_tasks, result=result), at=ended_at)


def _end_stop(run: Run, known: Tasks, writes: Writes, *, ended_at: datetime, at: datetime) -> None:
    if not all(task.has_ended for task in known):
        commands.repeat_stop(run, at=at)
    elif not commands.is_stop_recent(run, within=timedelta(seconds=settings.STOP_SETTLE), now=at):
        # A stop may meet the start of a task: Airflow shows it as skipped for a moment and then runs it.
        writes.flush()
        stops.record_ended_in_airflow(run, list(known), at=ended_at)


@transaction.atomic
def record_deleted(run_id: uuid.UUID, *, at: datetime) -> None:
    """Record that somebody has deleted the run in Airflow: it ends, and nothing more can be learnt about it."""
    run = Run.objects.select_for_update().get(pk=run_id)
    waits_for_clear = bool(commands.waiting_for_clear([run.pk]))
    if is_outdated(run, Observation(at=at), waits_for_clear=waits_for_clear) or run.state in TERMINAL:
        return
    data = events.WorkflowExternalChange(**events.fields_of(run), change="deleted")
    events.record(data, now=at, run=run)
    if run.state == RunState.STOPPING:
        moves.finish_stop(run, at=at)
    elif moves.move(run, to=RunState.FAILED, ended_at=at, state_reason="deleted in Airflow"):
        moves.record_end(run, failed_tasks=[], now=at)
