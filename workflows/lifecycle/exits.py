"""Whether a stop is complete: the one place that decides.

Airflow marks the task instances of a stopped run at once, but their processes live on for ten seconds, or on 2.11 for
a minute when they ignore signals. So Airflow's state proves nothing here. A task that had started needs an exit proof:
the line that its supervisor writes into the task's log when the process has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F

from workflows.models import Run, RunQuerySet, TaskInstance
from workflows.states import TASK_STARTED, TASK_TRY_ENDED, RunState

# A task that ended by itself so long before the stop has no process any more.
ENDED_LONG_AGO = timedelta(seconds=30)


@dataclass(frozen=True)
class ExitProof:
    """The process of a task's try has ended: its log says so (`proven`), or nothing was heard of it for very long."""

    task: TaskInstance
    at: datetime
    proven: bool


def exempt_long_ended(run: Run, *, now: datetime) -> None:
    """Let a stop of `run` need no exit proof of tasks that ended long before it."""
    ended = run.tasks.filter(state__in=TASK_TRY_ENDED, ended_at__lt=now - ENDED_LONG_AGO)
    ended.update(receipt_try=F("try_number"))


def missing(tasks: Iterable[TaskInstance]) -> list[TaskInstance]:
    """Return the task instances that lack an exit proof: they may still have a process.

    A skipped task never had one. A successful task reported its success itself, as the last thing it did.
    """
    return [task for task in tasks if task.state in TASK_STARTED | {"failed"} and task.receipt_try < task.try_number]


def awaited(airflow: str, *, now: datetime) -> RunQuerySet:
    """Return the stops in an Airflow before their deadline, newest first.

    They wait for exit proofs in runs that Airflow has ended.
    """
    return _awaited(airflow).filter(stop_requested_at__gte=now - timedelta(seconds=settings.STOP_DEADLINE))


def overdue(airflow: str, *, now: datetime) -> RunQuerySet:
    """Return the stops in an Airflow past their deadline that wait for exit proofs.

    The order is random: a stop whose proof never comes must not keep the others from their turn.
    """
    late = _awaited(airflow).filter(stop_requested_at__lt=now - timedelta(seconds=settings.STOP_DEADLINE))
    return late.order_by("?")


def _awaited(airflow: str) -> RunQuerySet:
    ended_in_airflow = Run.objects.filter(airflow__name=airflow, state=RunState.STOPPING, ended_at__isnull=False)
    return ended_in_airflow.order_by("-stop_requested_at").prefetch_related("tasks")
