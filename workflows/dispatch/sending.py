"""Send one command to Airflow, under its lease, and record what came of it.

A lease expires after a crash. Every command can be repeated safely, so the next worker sends it again.
"""

from __future__ import annotations

import logging
import random
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F
from django.utils import timezone

from rest.masking import mask
from workflows import dagrules, gateway, rights
from workflows.access import why_dag_is_closed
from workflows.airflow.errors import (
    AirflowAuthError,
    AirflowError,
    AirflowForbiddenError,
    AirflowUnavailableError,
)
from workflows.dispatch import backoff, kinds
from workflows.lifecycle import moves, results
from workflows.models import AirflowCommand, CommandKind, Dag, ResultState, Run
from workflows.states import RunState

logger = logging.getLogger(__name__)


class Sent(StrEnum):
    """What came of an attempt to send a command."""

    DONE = "done"  # or given up: nothing is left to do
    LATER = "later"  # Airflow did not do it; it is tried again
    NOT_NOW = "not now"  # another worker holds it, or another command comes first


def lease_time() -> timedelta:
    return timedelta(seconds=settings.DISPATCH_LEASE)


def calling_time() -> float:
    """Return in how many seconds the calls of a command must begin. The last one may take three times as long."""
    return float(settings.DISPATCH_LEASE / 4)


def take_and_send(command: AirflowCommand, *, now: datetime, hurried: bool = False) -> Sent:
    """Take the lease of a command that was just read, and send it."""
    had_arrived = command.may_have_arrived
    if not _lease(command, now=now):
        return Sent.NOT_NOW
    if not had_arrived and (hindrance := _why_no_longer_allowed(command)):
        give_up(command, reason=hindrance, now=now)
        return Sent.DONE
    return send(command, had_arrived=had_arrived, hurried=hurried)


def send(
    command: AirflowCommand, *, had_arrived: bool = False, hurried: bool = False, within: float | None = None
) -> Sent:
    """Send a command whose lease we hold, with calls that begin `within` so many seconds.

    `had_arrived` says whether an earlier attempt may have reached Airflow.
    """
    try:
        with (
            gateway.watched(command.airflow_name, hurried=hurried, purpose=gateway.Purpose.CONTROL) as client,
            client.within(calling_time() if within is None else within),
        ):
            kinds.KINDS[CommandKind(command.kind)](command, client)
    except AirflowError as exc:
        if isinstance(exc, AirflowUnavailableError) and not exc.sent:
            command.may_have_arrived = had_arrived
        return _settle_failure(command, exc, now=timezone.now())
    rights.record_allowed(_dag_of(command), rights.DEED_OF[CommandKind(command.kind)])
    return Sent.DONE


def _dag_of(command: AirflowCommand) -> Dag | None:
    """Return the DAG of the command as it was read with it. That of a run whose workflow got another is not."""
    run = command.run
    dag = command.dag if run is None else run.workflow.dag
    return dag if dag and (run is None or run.is_on(dag)) else None


def _lease(command: AirflowCommand, *, now: datetime) -> bool:
    """Take the lease, if nobody has taken it since the command was read and no other command comes first."""
    # A result changes nothing in Airflow: nothing waits for it.
    before = AirflowCommand.objects.filter(pk__lt=command.pk).exclude(kind=CommandKind.RESULT)
    mine = AirflowCommand.objects.pending().free(now).filter(pk=command.pk, attempts=command.attempts, held=False)
    mine = mine.exclude(Exists(before.pending().filter(run=command.run_id, dag=command.dag_id)))
    if command.kind == CommandKind.TRIGGER and command.workflow_id is not None:
        mine = mine.exclude(Exists(before.triggers_due(command.workflow_id, command.airflow_name, now)))
    until = now + lease_time()
    if mine.update(leased_until=until, attempts=F("attempts") + 1, may_have_arrived=True) != 1:
        return False
    command.leased_until, command.may_have_arrived = until, True
    command.attempts += 1
    return True


def _settle_failure(command: AirflowCommand, exc: AirflowError, *, now: datetime) -> Sent:
    """Try again later. Give up if waiting does not help, or if the deadline has passed."""
    logger.warning(
        "command to Airflow failed",
        extra={"command": command.kind, "command_id": command.pk, "attempt": command.attempts, "error": str(exc)},
    )
    error = mask(str(exc))
    # The operator has to correct refused credentials. Until then, accepted runs wait.
    waits = exc.retryable or isinstance(exc, AirflowAuthError)
    # A run that was accepted for a stop must not go on unseen: the operator can still add the right.
    waits |= isinstance(exc, AirflowForbiddenError) and command.kind == CommandKind.STOP
    first_due = max(command.created_at, command.run.run_at or command.created_at) if command.run else command.created_at
    if not waits or now - first_due > timedelta(seconds=settings.DISPATCH_DEADLINE):
        give_up(command, reason=error, now=now)
        return Sent.DONE
    wait = backoff.delay(command.attempts, jitter=random.random())  # noqa: S311 - spreads load, hides nothing
    AirflowCommand.objects.filter(pk=command.pk).update(
        due_at=now + wait, leased_until=None, last_error=error, may_have_arrived=command.may_have_arrived
    )
    return Sent.LATER


_FAILS_ITS_RUN = {CommandKind.TRIGGER: "dispatch the run to", CommandKind.CLEAR: "retry the run in"}


def _why_no_longer_allowed(command: AirflowCommand) -> str:
    """Return why the run of the command must not start or be retried any more: a command may wait for days."""
    if dagrules.is_open() or command.kind not in _FAILS_ITS_RUN:
        return ""
    run = kinds.run_of(command)
    return why_dag_is_closed(run.workflow, Dag.objects.of_run(run).first())


@transaction.atomic
def give_up(command: AirflowCommand, *, reason: str, now: datetime) -> None:
    """Finish a command that Airflow will not do.

    A run that it was to start or to retry has failed. A result that it was to read is unavailable.
    """
    kinds.finish(command, now=now, error=reason)
    if command.kind == CommandKind.RESULT:
        lost = results.Found(state=ResultState.UNAVAILABLE, reason=reason)
        results.settle(kinds.run_of(command), attempt=command.arguments["attempt"], known=lost, now=now)
        return
    failed_action = _FAILS_ITS_RUN.get(CommandKind(command.kind))
    if failed_action is None:
        return
    run = Run.objects.select_for_update().get(pk=kinds.run_of(command).pk)
    if moves.move(run, to=RunState.FAILED, ended_at=now, state_reason=f"Could not {failed_action} Airflow: {reason}"):
        moves.record_end(run, failed_tasks=[], now=now)
