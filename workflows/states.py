"""States of runs and task instances, and the one table of how a run may move."""

from __future__ import annotations

from django.db import models


class RunState(models.TextChoices):
    PENDING = "pending"  # accepted here, not yet known to Airflow
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCESS = "success"
    FAILED = "failed"
    STOPPED = "stopped"


TERMINAL = frozenset({RunState.SUCCESS, RunState.FAILED, RunState.STOPPED})
OPEN = frozenset(set(RunState) - TERMINAL)

# Each state names the states that it may be entered from. An ended run starts again only by a retry here or a clear
# in Airflow: both enter `queued`. Nothing else leaves `stopped`, so a success that arrives late changes nothing.
ENTERED_FROM: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.PENDING}) | TERMINAL,
    RunState.RUNNING: frozenset({RunState.PENDING, RunState.QUEUED}),
    RunState.STOPPING: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING}),
    RunState.SUCCESS: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING, RunState.FAILED}),
    RunState.FAILED: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING, RunState.SUCCESS}),
    RunState.STOPPED: frozenset({RunState.PENDING, RunState.STOPPING}),
}

# States of Airflow's task instances. Later versions of Airflow may have others: those are stored and shown as they are.
TASK_NOT_BEGUN = frozenset({"", "scheduled", "queued"})
TASK_STARTED = frozenset({"running", "deferred", "up_for_reschedule", "restarting", "awaiting_input"})
# States in which a task instance has a process, or is about to get one.
TASK_ALIVE = TASK_STARTED | {"scheduled", "queued"}
# States from which a task instance that has begun goes on.
TASK_PAUSED = frozenset({"deferred", "up_for_reschedule", "awaiting_input"})
TASK_WAITING = TASK_PAUSED | {"scheduled", "queued"}
# States in which a task instance goes on while its DAG is paused. All others wait for the scheduler.
TASK_AT_WORK = frozenset({"queued", "running", "restarting"})
TASK_TERMINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# States in which a try has ended. The next try has a higher number.
TASK_TRY_ENDED = TASK_TERMINAL | {"up_for_retry"}
TASK_KNOWN = TASK_NOT_BEGUN | TASK_STARTED | TASK_TRY_ENDED
