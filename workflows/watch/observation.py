"""What one poll of Airflow, or one push of its listener, shows of a run, and whether that is news."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from workflows.airflow import types
from workflows.lifecycle.results import Found
from workflows.models import Run, RunAttempt, TaskInstance
from workflows.states import TASK_ALIVE, TASK_NOT_BEGUN, TASK_TERMINAL, TASK_TRY_ENDED, TERMINAL, RunState
from workflows.watch import executions
from workflows.watch.executions import Pair, Tasks

LONGEST_STATE = 250
AIRFLOW_TERMINAL = {"success": RunState.SUCCESS, "failed": RunState.FAILED}


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one poll or push showed of one run.

    `at` is our own clock before the poll. `run` is None when only tasks were read. `all_tasks` is true when `tasks` are
    all tasks of the run and were read after `run`. This is needed when `run` has ended and its tasks are not known to
    have ended (`all_tasks_have_ended`). `pushed` is true for a push. Pushes come from several processes, in no order,
    so each is compared with what is known of its own task. `questions` are those that these tasks asked and no poll
    has shown, by the id of the task instance. `result` is that of the run, if it has been read.
    """

    at: datetime
    run: types.DagRun | None = None
    tasks: Sequence[types.TaskInstance] = ()
    all_tasks: bool = False
    pushed: bool = False
    questions: Mapping[str, types.Question] = field(default_factory=dict)
    result: Found | None = None

    @property
    def end(self) -> types.DagRun | None:
        """The run, if it has ended in Airflow."""
        return self.run if self.run and self.run.state in AIRFLOW_TERMINAL else None


def is_outdated(run: Run, observation: Observation, *, waits_for_clear: bool) -> bool:
    """Return whether the observation is older than what is known of the run.

    Until Airflow has cleared the tasks of a retry (`waits_for_clear`), it still shows the end of the attempt before.
    """
    if run.observed_at and observation.at < run.observed_at and not observation.pushed:
        return True
    return waits_for_clear


def may_be_news(run: Run, known: Iterable[TaskInstance], observation: Observation) -> bool:
    """Return whether the observation differs from what is known. Each poll shows the last ten seconds again."""
    if any(differs(task, seen) for seen, task in executions.pair(run, known, observation.tasks)):
        return True
    if observation.run is None:
        return False
    if observation.run.state == "queued":
        return run.state == RunState.PENDING or run.state in TERMINAL
    # A state of a later Airflow counts as running.
    return observation.run.state not in AIRFLOW_TERMINAL and run.state not in {RunState.RUNNING, RunState.STOPPING}


def begins_again(run: Run, seen: types.DagRun) -> bool:
    """Return whether Airflow has started an ended run again. Otherwise `seen` is late news of its end."""
    if seen.start_date is None or run.ended_at is None:
        return seen.state not in AIRFLOW_TERMINAL
    return seen.start_date > run.ended_at


def times_in_airflow(run: Run, seen: types.DagRun) -> tuple[datetime | None, datetime | None]:
    """Return the start and the end of an ended run, as Airflow has them."""
    return seen.start_date or run.started_at, seen.end_date or run.ended_at


def of_this_attempt(observation: Observation, last: RunAttempt | None) -> Observation:
    """Return the observation without what it shows of `last`, the attempt before this one.

    Airflow gives each attempt a start of its own, so its clock alone decides. Pushes may arrive late, and a signed push
    may be sent again: such a task ended before the earlier attempt did. A poll shows tasks as they are now.
    """
    if last is None:
        return observation
    seen = observation.run
    if seen and seen.start_date and last.started_at and seen.start_date <= last.started_at:
        observation = replace(observation, run=None, all_tasks=False)
    # `all_tasks` were read from Airflow after the push, so they are as they are now.
    if observation.pushed and not observation.all_tasks and last.ended_at:
        tasks = [task for task in observation.tasks if _latest(task) > last.ended_at]
        observation = replace(observation, tasks=tasks)
    return observation


def _latest(seen: types.TaskInstance) -> datetime:
    return seen.end_date or seen.start_date or datetime.max.replace(tzinfo=UTC)


def all_tasks_have_ended(run: Run, tasks: Iterable[TaskInstance]) -> bool:
    """Return whether each task of the run's DAG is known to have ended: then its end is recorded without reading them.

    This is never true with a mapped task, because the number of its instances is unknown; in a retry, whose tasks start
    with the states of the attempt before; or in a stop, which does not depend on these states alone.
    """
    if run.state != RunState.RUNNING or run.attempt > 1 or not all(task.state in TASK_TERMINAL for task in tasks):
        return False
    of_dag = {task["task_id"] for task in run.dag.tasks}
    return bool(of_dag) and of_dag <= {task.task_id for task in tasks if task.map_index < 0}


def recordable(run: Run, observation: Observation, pairs: Iterable[Pair], known: Tasks) -> Iterator[Pair]:
    """Yield the tasks to record now.

    A started task waits for a later observation until the run itself has started, or has ended without a start. A known
    end that somebody marks otherwise does not wait: the task ended in the attempt before, and the run may stay queued
    for longer than a feed shows the mark. In a stop, Airflow ends the tasks, and their processes push ends of their
    own, which Airflow refuses: only what was read there counts.
    """
    has_ended = observation.run is not None and observation.run.state in AIRFLOW_TERMINAL
    waits = run.state in {RunState.PENDING, RunState.QUEUED} and not has_ended
    is_stopped = run.state in {RunState.STOPPING, RunState.STOPPED}
    # All tasks were read from Airflow after the push.
    pushed = observation.pushed and not observation.all_tasks
    for seen, task in pairs:
        state = seen.state or ""
        if waits and state not in TASK_NOT_BEGUN and not _is_marked(task, seen):
            continue
        if is_stopped and pushed and state in TASK_TRY_ENDED:
            continue
        if task.pk is None:
            is_behind = pushed and executions.is_superseded(seen, known)
        else:
            is_behind = _is_behind(seen, task, pushed=pushed)
        if not is_behind:
            yield seen, task


def _is_marked(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether `seen` is the end of a try whose end is known already."""
    return executions.is_same(task, seen) and task.state in TASK_TERMINAL and seen.state in TASK_TERMINAL


def _is_behind(seen: types.TaskInstance, task: TaskInstance, *, pushed: bool) -> bool:
    """Return whether what is known of the task is newer than `seen`.

    Airflow pushes the end of a task before it stores it, so a poll right after a push may show the task still running.
    A push itself may arrive after a later one. The process of a task that somebody has marked pushes its own end, which
    Airflow refuses: a push never changes a known end.
    """
    if seen.try_number > task.try_number:
        return False
    same_try = executions.is_same(task, seen)
    if same_try and task.state in TASK_TRY_ENDED:
        if (seen.state or "") in TASK_ALIVE:
            return not _starts_after_its_end(seen, task)
        return pushed
    return pushed and not same_try


def _starts_after_its_end(seen: types.TaskInstance, task: TaskInstance) -> bool:
    """Return whether a stop met the start of the task: Airflow showed the try as skipped, and then started it."""
    return seen.start_date is not None and task.ended_at is not None and seen.start_date > task.ended_at


def differs(task: TaskInstance, seen: types.TaskInstance) -> bool:
    """Return whether the task is new, or one of its columns has changed."""
    is_new = task.pk is None or not executions.is_same(task, seen)
    return is_new or any(getattr(task, name) != value for name, value in columns_of(seen, task).items())


def columns_of(seen: types.TaskInstance, task: TaskInstance) -> dict[str, Any]:
    """Return what is to be stored of a task instance. `task` is what is known of it."""
    state = seen.state or ""
    return {
        # Airflow makes the placeholder of a mapped task its first instance.
        "map_index": seen.map_index,
        "state": state[:LONGEST_STATE],
        "try_number": seen.try_number,
        "max_tries": seen.max_tries,
        "operator": seen.operator or "",
        "started_at": _first_start(seen, task),
        # While a try waits to go on, Airflow shows when it last paused.
        "ended_at": None if state in _NOT_ENDED else seen.end_date,
    }


_NOT_ENDED = TASK_ALIVE | {""}


def _first_start(seen: types.TaskInstance, task: TaskInstance) -> datetime | None:
    """Return when the try began.

    Airflow moves the start of a rescheduled task, and in some versions of a deferred one, each time it goes on. Before
    a try begins, Airflow shows the start of the try before.
    """
    known = task.started_at if executions.is_same(task, seen) else None
    if (seen.state or "") in TASK_NOT_BEGUN:
        return None if task.state in TASK_TRY_ENDED else known
    if known is None or seen.start_date is None:
        return seen.start_date
    never_ran = known == task.ended_at
    return seen.start_date if never_ran else min(known, seen.start_date)
