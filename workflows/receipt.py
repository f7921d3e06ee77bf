"""Whether a stop is complete: the one place that decides.

Airflow marks the task instances of a stopped run at once, while their processes live on for ten seconds, or on 2.11
for a minute when they ignore signals. So its word ends nothing here. A task that had started has to have a receipt:
its supervisor's own words in the task's log, written after the process was waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError, AirflowUnavailableError
from workflows.models import Run, RunQuerySet, TaskInstance
from workflows.states import TASK_OVER, TASK_STARTED, RunState

logger = logging.getLogger(__name__)

# What was over by itself so long before the stop has no process any more: nobody had stopped it.
LONG_OVER = timedelta(seconds=30)
# So much is asked for in one go; the rest waits for the next one.
LOGS_AT_ONCE = 20
SECONDS_AT_ONCE = 10.0


@dataclass(frozen=True)
class Receipt:
    """The process of a task instance's try is gone: seen to be (`proven`), or not heard of for very long."""

    task: TaskInstance
    at: datetime
    proven: bool


def waive(run: Run, *, now: datetime) -> None:
    """A stop of `run` is asked for: what had ended long before needs no receipt."""
    ended = run.tasks.filter(state__in=TASK_OVER, ended_at__lt=now - LONG_OVER)
    ended.update(receipt_try=F("try_number"))


def missing(tasks: Iterable[TaskInstance]) -> list[TaskInstance]:
    """The task instances that may still have a process.

    One that Airflow skipped never had any, and one that has succeeded said so itself as the last thing that it did.
    """
    return [task for task in tasks if task.state in TASK_STARTED | {"failed"} and task.receipt_try < task.try_number]


def awaited(*, now: datetime) -> RunQuerySet:
    """Stops that Airflow has carried out and that lack receipts, the newest first, up to their deadline."""
    return _awaited().filter(stop_requested_at__gte=now - timedelta(seconds=settings.STOP_DEADLINE))


def overdue(*, now: datetime) -> RunQuerySet:
    """Those past their deadline, in no order: none of them, hopeless for ever, may keep the others from their turn."""
    late = _awaited().filter(stop_requested_at__lt=now - timedelta(seconds=settings.STOP_DEADLINE))
    return late.order_by("?")


def _awaited() -> RunQuerySet:
    carried_out = Run.objects.filter(state=RunState.STOPPING, ended_at__isnull=False)
    return carried_out.order_by("-stop_requested_at").prefetch_related("tasks")


def collect(client: AirflowClient, runs: RunQuerySet, *, now: datetime) -> Iterator[tuple[Run, list[Receipt]]]:
    """Ask for the receipts that these runs lack, as many as one go may; those that have come, by run."""
    begun, asked = timezone.now(), 0
    for run in runs[:LOGS_AT_ONCE]:
        receipts = []
        for task in missing(run.tasks.all()):
            if asked == LOGS_AT_ONCE or (timezone.now() - begun).total_seconds() > SECONDS_AT_ONCE:
                break
            asked += 1
            try:
                receipts += _ask(client, run, task, now=now)
            except AirflowUnavailableError as exc:
                # The next look tells whether it is down; until then there are no more receipts to be had.
                logger.warning("no receipt", extra={"run_id": str(run.pk), "task": str(task), "error": str(exc)})
                asked = LOGS_AT_ONCE
        yield run, receipts


def _ask(client: AirflowClient, run: Run, task: TaskInstance, *, now: datetime) -> list[Receipt]:
    """The receipt of a task, if there is one."""
    last_at: datetime | None = None
    try:
        end = client.tasks.log_end(
            run.dag_id, run.dag_run_id, task.task_id, try_number=task.try_number, map_index=task.map_index
        )
    except AirflowUnavailableError:
        raise
    except AirflowError as exc:
        logger.warning("no log", extra={"run_id": str(run.pk), "task": str(task), "error": str(exc)})
    else:
        last_at = end.last_at
        if end.is_over:
            return [Receipt(task, last_at or now, proven=True)]
    heard_at = max(filter(None, (last_at, task.ended_at, run.stop_requested_at)))
    is_silent = now - heard_at > timedelta(seconds=settings.STOP_SILENCE)
    return [Receipt(task, now, proven=False)] if is_silent else []
