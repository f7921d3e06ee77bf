"""Carries out what we owe Airflow: triggers, stops and clears.

A command is written in the transaction of the change that it carries out, so it survives a crash at any line,
and each kind bears being carried out twice. Who carries one out holds a lease, which a crash lets run out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from workflows import backoff, observe, upstream
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowAuthError, AirflowError, AirflowNotFoundError
from workflows.models import AirflowCommand, AirflowState, CommandKind, Run
from workflows.states import RunState

logger = logging.getLogger(__name__)


def owe(run: Run, kind: CommandKind, *, now: datetime, **arguments: Any) -> AirflowCommand:
    """Write down a command; call it inside the transaction of the change."""
    return AirflowCommand.objects.create(run=run, kind=kind, arguments=arguments, created_at=now, due_at=now)


def try_now(run: Run) -> None:
    """Carry out what is owed for `run` at once, unless Airflow is known not to answer.

    What fails here stays owed; `carry_out_due` comes round to it.
    """
    if not AirflowState.current().reachable:
        return
    for command in _owed().filter(run=run):
        carry_out(command, now=timezone.now())


def carry_out_due(*, now: datetime, limit: int = 50) -> int:
    """Carry out what is due, oldest first; tell how many were taken on. Stops early while Airflow is down."""
    taken = 0
    for command in _owed().filter(due_at__lte=now)[:limit]:
        taken += carry_out(command, now=timezone.now())
        if not AirflowState.current().reachable:
            break
    return taken


def _owed() -> Any:
    return AirflowCommand.objects.filter(finished_at__isnull=True).select_related("run").order_by("id")


def carry_out(command: AirflowCommand, *, now: datetime) -> bool:
    """Take the lease and carry the command out; False when somebody else holds it or it is not its turn."""
    if not _lease(command, now=now):
        return False
    try:
        with upstream.watched() as client:
            _KINDS[CommandKind(command.kind)](command, client)
    except AirflowError as exc:
        _settle_failure(command, exc, now=timezone.now())
    return True


def _lease(command: AirflowCommand, *, now: datetime) -> bool:
    earlier = AirflowCommand.objects.filter(run=command.run_id, finished_at__isnull=True, pk__lt=command.pk)
    if earlier.exists():
        return False
    free = Q(leased_until__isnull=True) | Q(leased_until__lt=now)
    until = now + timedelta(seconds=settings.DISPATCH_LEASE)
    mine = AirflowCommand.objects.filter(free, pk=command.pk, finished_at__isnull=True)
    if mine.update(leased_until=until, attempts=F("attempts") + 1) != 1:
        return False
    command.refresh_from_db()
    return True


@transaction.atomic
def _finish(command: AirflowCommand, *, now: datetime, error: str = "") -> None:
    AirflowCommand.objects.filter(pk=command.pk).update(finished_at=now, leased_until=None, last_error=error)
    # Whatever was seen before this moment may be from before the command took effect.
    Run.objects.filter(pk=command.run_id).update(observed_at=now)


def _trigger(command: AirflowCommand, client: AirflowClient) -> None:
    """Hand the run over. Safe to repeat: its dag_run_id is fixed, an existing run is adopted."""
    run = command.run
    run.refresh_from_db()
    if run.state != RunState.PENDING:
        # Stopped since; the stop that follows looks whether an earlier attempt did get through.
        _finish(command, now=timezone.now())
        return
    seen = client.runs.trigger(run.dag_id, dag_run_id=run.dag_run_id, conf=run.conf, note=run.note or None)
    now = timezone.now()
    with transaction.atomic():
        _finish(command, now=now)
        # A stop may have come first: its own command follows and finds the run in Airflow.
        Run.objects.filter(pk=run.pk, state=RunState.PENDING).update(
            state=RunState.QUEUED, queued_at=seen.queued_at or now
        )


def _stop(command: AirflowCommand, client: AirflowClient) -> None:
    """Have Airflow end the run. Safe to repeat: it sets a state."""
    run = command.run
    try:
        client.runs.set_state(run.dag_id, run.dag_run_id, "failed")
    except AirflowNotFoundError:
        with transaction.atomic():
            _finish(command, now=timezone.now())
            observe.finish_stop(run, at=timezone.now())
        return
    _finish(command, now=timezone.now())


def _clear(command: AirflowCommand, client: AirflowClient) -> None:
    """Have Airflow run tasks again. Repeated only while its first try has not taken effect."""
    run, wanted = command.run, command.arguments
    repeated = command.attempts > 1
    if not (repeated and client.runs.get(run.dag_id, run.dag_run_id).state in {"queued", "running"}):
        clear(client, run, mode=wanted["mode"], task_id=wanted.get("task_id"), dry_run=False)
    _finish(command, now=timezone.now())


def clear(client: AirflowClient, run: Run, *, mode: str, task_id: str | None, dry_run: bool) -> list[tuple[str, int]]:
    """Clear the tasks that a retry of this mode runs again, or only list them; (task_id, map_index) of each."""
    refs = client.tasks.clear(
        run.dag_id,
        run.dag_run_id,
        task_ids=[task_id] if task_id else None,
        only_failed=mode == "failed",
        include_downstream=mode == "from_task",
        dry_run=dry_run,
    )
    return sorted((ref.task_id, ref.map_index) for ref in refs)


_KINDS: dict[CommandKind, Callable[[AirflowCommand, AirflowClient], None]] = {
    CommandKind.TRIGGER: _trigger,
    CommandKind.STOP: _stop,
    CommandKind.CLEAR: _clear,
}


def _settle_failure(command: AirflowCommand, exc: AirflowError, *, now: datetime) -> None:
    """Try again later, or give up where waiting does not help or the deadline has passed."""
    logger.warning(
        "command to Airflow failed",
        extra={
            "command": command.kind,
            "run_id": str(command.run_id),
            "attempt": command.attempts,
            "error": str(exc),
        },
    )
    # Refused credentials are the operator's to mend; what was accepted waits for that.
    waits = exc.retryable or isinstance(exc, AirflowAuthError)
    expired = now - command.created_at > timedelta(seconds=settings.DISPATCH_DEADLINE)
    if waits and not expired:
        wait = backoff.delay(command.attempts, jitter=random.random())  # noqa: S311 - spreads load, hides nothing
        AirflowCommand.objects.filter(pk=command.pk).update(due_at=now + wait, leased_until=None, last_error=str(exc))
        return
    _give_up(command, reason=str(exc), now=now)


@transaction.atomic
def _give_up(command: AirflowCommand, *, reason: str, now: datetime) -> None:
    _finish(command, now=now, error=reason)
    run = Run.objects.select_for_update().get(pk=command.run_id)
    verb = {"trigger": "hand the run over to", "clear": "retry the run in", "stop": "stop the run in"}[command.kind]
    explained = f"Could not {verb} Airflow: {reason}"
    if command.kind != CommandKind.STOP and observe.move(run, to=RunState.FAILED, ended_at=now, state_reason=explained):
        observe.record_end(run, failed_tasks=[], now=now)
