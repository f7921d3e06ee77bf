"""Read from Airflow whether the processes of stopped runs have ended, and record it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from workflows import task_logs
from workflows.airflow.errors import AirflowError, AirflowUnavailableError
from workflows.eventlog import events
from workflows.lifecycle import exits, moves
from workflows.lifecycle.exits import ExitProof
from workflows.models import Event, Run, RunQuerySet, TaskInstance
from workflows.states import RunState

logger = logging.getLogger(__name__)

# One turn reads so many logs, for so long. The rest waits for the next turn.
LOGS_AT_ONCE = 20
SECONDS_AT_ONCE = 10.0


def look_for_proofs(runs: RunQuerySet) -> None:
    """Read the logs for the exit proofs that these runs lack, and record the proofs that have come."""
    for run, proofs in _collect(runs, now=timezone.now()):
        if proofs:
            record_proofs(run.pk, proofs)


def _collect(runs: RunQuerySet, *, now: datetime) -> Iterator[tuple[Run, list[ExitProof]]]:
    """Yield each run with the proofs that have come, for as many logs as one turn may read."""
    begun, asked = timezone.now(), 0
    for run in runs[:LOGS_AT_ONCE]:
        proofs = []
        for task in exits.missing(run.tasks.all()):
            if asked == LOGS_AT_ONCE or (timezone.now() - begun).total_seconds() > SECONDS_AT_ONCE:
                break
            asked += 1
            try:
                proofs += _find_proof(run, task, now=now)
            except AirflowUnavailableError as exc:
                # The next poll finds out whether Airflow is down. Until then it gives no more proofs.
                logger.warning("no exit proof", extra={"run_id": str(run.pk), "task": str(task), "error": str(exc)})
                asked = LOGS_AT_ONCE
        yield run, proofs


def _find_proof(run: Run, task: TaskInstance, *, now: datetime) -> list[ExitProof]:
    """Return the exit proof of a task, if there is one."""
    last_at: datetime | None = None
    try:
        end = task_logs.end_of_log(run, task, now=now)
    except AirflowUnavailableError:
        raise
    except AirflowError as exc:
        logger.warning("no log", extra={"run_id": str(run.pk), "task": str(task), "error": str(exc)})
    else:
        if end is None:
            # Airflow is still preparing the log. A later poll finds out how it ends.
            return []
        last_at = end.last_at
        if end.has_ended:
            return [ExitProof(task, last_at or now, proven=True)]
    heard_at = max(filter(None, (last_at, task.ended_at, run.stop_requested_at)))
    is_silent = now - heard_at > timedelta(seconds=settings.STOP_SILENCE)
    return [ExitProof(task, now, proven=False)] if is_silent else []


def record_ended_in_airflow(run: Run, known: Sequence[TaskInstance], *, at: datetime) -> None:
    """Record that Airflow has ended the run. The stop is complete if no exit proof is missing."""
    if not exits.missing(known):
        moves.finish_stop(run, at=at)
    elif run.ended_at is None:
        run.ended_at = moves.not_before_its_tasks(run, at)
        run.save(update_fields=["ended_at"])


@transaction.atomic
def record_proofs(run_id: uuid.UUID, proofs: Sequence[ExitProof]) -> None:
    """Record that processes of a stopped run have ended. With the last missing proof, the stop is complete."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state != RunState.STOPPING or run.ended_at is None:
        return
    for proof in proofs:
        run.tasks.filter(pk=proof.task.pk).update(receipt_try=proof.task.try_number)
    if presumed := sorted(str(proof.task) for proof in proofs if not proof.proven):
        run.state_reason += f" (nothing was heard of {', '.join(presumed)} for {settings.STOP_SILENCE:g} s)"
        run.save(update_fields=["state_reason"])
    if not exits.missing(run.tasks.all()):
        moves.finish_stop(run, at=max(run.ended_at, *(proof.at for proof in proofs)))


def report_incomplete_stops(airflow: str, *, now: datetime) -> None:
    """Record each stop that has passed its deadline, once per stop."""
    limit = now - timedelta(seconds=settings.STOP_DEADLINE)
    late = Run.objects.filter(airflow__name=airflow, state=RunState.STOPPING, stop_requested_at__lt=limit)
    reported = Event.objects.filter(
        run=OuterRef("pk"), type=events.WorkflowStopIncomplete.type, timestamp__gte=OuterRef("stop_requested_at")
    )
    for run in late.exclude(Exists(reported)):
        record_incomplete_stop(run.pk, at=now)


@transaction.atomic
def record_incomplete_stop(run_id: uuid.UUID, *, at: datetime) -> None:
    """Record which task instances still run after the deadline of a stop."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state != RunState.STOPPING:
        return
    still = [str(task) for task in exits.missing(run.tasks.all())]
    data = events.WorkflowStopIncomplete(**events.fields_of(run), still_running=still)
    events.record(data, now=at, run=run)
