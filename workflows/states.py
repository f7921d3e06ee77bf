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

# Each state names the states that it may be entered from. A run that has ended begins again only by a
# retry here or a clear in Airflow: both enter `queued`. `stopped` is left by a retry or a clear alone,
# so a success that comes in late finds no way.
ENTERED_FROM: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.PENDING}) | TERMINAL,
    RunState.RUNNING: frozenset({RunState.PENDING, RunState.QUEUED}),
    RunState.STOPPING: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING}),
    RunState.SUCCESS: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING, RunState.FAILED}),
    RunState.FAILED: frozenset({RunState.PENDING, RunState.QUEUED, RunState.RUNNING, RunState.SUCCESS}),
    RunState.STOPPED: frozenset({RunState.PENDING, RunState.STOPPING}),
}

# States of Airflow's task instances. Anything else, an empty state included, means "not started yet".
TASK_STARTED = frozenset({"running", "deferred", "up_for_reschedule", "restarting"})
TASK_TERMINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# Where a try is over; a further one has a higher number.
TASK_OVER = TASK_TERMINAL | {"up_for_retry"}
