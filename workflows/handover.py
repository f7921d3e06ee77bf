"""Carries out what we owe Airflow: triggers, stops, clears, and pauses of DAGs.

A command is written in the transaction of the change that it carries out, so it survives a crash at any line,
and each kind bears being carried out twice. Who carries one out holds a lease, which a crash lets run out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from workflows import backoff, freezing, observe, upstream
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import (
    AirflowAuthError,
    AirflowError,
    AirflowNotFoundError,
    AirflowUnavailableError,
)
from workflows.models import AirflowCommand, AirflowState, CommandKind, Dag, Run
from workflows.states import RunState

logger = logging.getLogger(__name__)


# --- Owing and taking back, inside the transaction of the change -------------------------------------------


def owe(
    kind: CommandKind,
    *,
    now: datetime,
    run: Run | None = None,
    dag: Dag | None = None,
    due_at: datetime | None = None,
    **arguments: Any,
) -> AirflowCommand:
    """Write down a command for a run or a DAG, not to be carried out before `due_at`."""
    return AirflowCommand.objects.create(
        kind=kind, run=run, dag=dag, arguments=arguments, created_at=now, due_at=due_at or now
    )


def withdraw_trigger(run: Run, *, now: datetime) -> bool:
    """Take back a trigger that can not have reached Airflow; tell whether it was in time."""
    waiting = _waiting_trigger(run, now=now).filter(may_have_arrived=False)
    return waiting.update(finished_at=now, last_error="withdrawn: the run was stopped") == 1


def hold_trigger(run: Run, *, held: bool, now: datetime) -> bool:
    """Hold a trigger that nobody is carrying out, or let it go; tell whether there was one to hold."""
    return _waiting_trigger(run, now=now).filter(held=not held).update(held=held) == 1


def _waiting_trigger(run: Run, *, now: datetime) -> QuerySet[AirflowCommand]:
    trigger = AirflowCommand.objects.filter(run=run, kind=CommandKind.TRIGGER)
    return trigger.filter(_free(now), finished_at__isnull=True)


def _free(now: datetime) -> Q:
    return Q(leased_until__isnull=True) | Q(leased_until__lt=now)


# --- Carrying out ------------------------------------------------------------------------------------------


def try_now(*, run: Run | None = None, dag: Dag | None = None) -> None:
    """Carry out what is due for a run or a DAG at once, unless Airflow is known not to answer.

    What fails here stays owed, and a trigger does not overtake those that wait already: `carry_out_due` comes
    round to it.
    """
    now = timezone.now()
    if not upstream.answers():
        return
    for command in _due(now).filter(run=run, dag=dag):
        waiting = _due(now).filter(kind=CommandKind.TRIGGER, pk__lt=command.pk, leased_until__isnull=True)
        if command.kind != CommandKind.TRIGGER or not waiting.exists():
            carry_out(command, hurried=True, now=timezone.now())


def carry_out_due(*, now: datetime, limit: int = 200) -> int:
    """Carry out what is due, oldest first; tell how many were taken on. One worker at a time keeps the order.

    While Airflow is down nothing is tried: the look at it, every few seconds, finds out when it is back.
    """
    AirflowState.current()
    free = Q(dispatch_leased_until__isnull=True) | Q(dispatch_leased_until__lt=now)
    lease = now + _lease_time()
    if not _take_dispatch(free, until=lease):
        return 0
    taken = 0
    try:
        _expire(now)
        for command in _due(now)[:limit]:
            # Of one moment, so that the two leases of a worker that dies run out together: with the command's still
            # held, the next worker would pass it over.
            moment = max(now, timezone.now())
            renewed = moment + _lease_time()
            if not (upstream.answers() and _take_dispatch(Q(dispatch_leased_until=lease), until=renewed)):
                break
            lease = renewed
            taken += carry_out(command, now=moment)
    finally:
        # Not that of another worker, to whom a lease that ran out has passed.
        AirflowState.objects.filter(dispatch_leased_until=lease).update(dispatch_leased_until=None)
    return taken


def _take_dispatch(where: Q, *, until: datetime) -> bool:
    return AirflowState.objects.filter(where).update(dispatch_leased_until=until) == 1


def _lease_time() -> timedelta:
    return timedelta(seconds=settings.DISPATCH_LEASE)


def _expire(now: datetime) -> None:
    """Give up the triggers whose deadline has passed while Airflow was away."""
    limit = now - timedelta(seconds=settings.DISPATCH_DEADLINE)
    overdue = AirflowCommand.objects.filter(_free(now), kind=CommandKind.TRIGGER, finished_at__isnull=True, held=False)
    for command in overdue.filter(created_at__lt=limit).exclude(run__run_at__gte=limit):
        reason = command.last_error or "it did not answer"
        _give_up(command, reason=f"{reason}; the deadline has passed", now=now)


def _due(now: datetime) -> QuerySet[AirflowCommand]:
    owed = AirflowCommand.objects.filter(finished_at__isnull=True, held=False, due_at__lte=now)
    return owed.select_related("run__workflow__dag", "dag").order_by("id")


def carry_out(command: AirflowCommand, *, now: datetime, hurried: bool = False) -> bool:
    """Take the lease and carry the command out; False when somebody else holds it or it is not its turn."""
    may_have_arrived = command.may_have_arrived
    if not _lease(command, now=now):
        return False
    try:
        # A quarter: the last request that begins in this time may take thrice as long.
        with upstream.watched(hurried=hurried) as client, client.within(settings.DISPATCH_LEASE / 4):
            _KINDS[CommandKind(command.kind)](command, client)
    except AirflowError as exc:
        if isinstance(exc, AirflowUnavailableError) and not exc.sent:
            command.may_have_arrived = may_have_arrived
        _settle_failure(command, exc, now=timezone.now())
    return True


def _lease(command: AirflowCommand, *, now: datetime) -> bool:
    same_target = AirflowCommand.objects.filter(run=command.run, dag=command.dag, finished_at__isnull=True)
    if same_target.filter(pk__lt=command.pk).exists():
        return False
    until = now + _lease_time()
    mine = same_target.filter(_free(now), pk=command.pk, held=False)
    if mine.update(leased_until=until, attempts=F("attempts") + 1, may_have_arrived=True) != 1:
        return False
    command.refresh_from_db()
    return True


@transaction.atomic
def _finish(command: AirflowCommand, *, now: datetime, error: str = "") -> None:
    AirflowCommand.objects.filter(pk=command.pk).update(finished_at=now, leased_until=None, last_error=error)
    # Whatever was seen before this moment may be from before the command took effect.
    Run.objects.filter(commands=command).update(observed_at=now)


# --- The kinds ---------------------------------------------------------------------------------------------


def _run_of(command: AirflowCommand) -> Run:
    return Run.objects.select_related("workflow__dag").get(commands=command)


def _trigger(command: AirflowCommand, client: AirflowClient) -> None:
    """Hand the run over. Safe to repeat: its dag_run_id is fixed, an existing run is adopted."""
    run = _run_of(command)
    if run.state != RunState.PENDING:
        # Stopped since; the stop that follows looks whether an earlier attempt did get through.
        _finish(command, now=timezone.now())
        return
    seen = client.runs.trigger(run.dag_id, dag_run_id=run.dag_run_id, conf=run.conf, note=run.note or None)
    now = timezone.now()
    with transaction.atomic():
        _finish(command, now=now)
        # A stop may have come first: its own command follows and finds the run in Airflow.
        pending = Run.objects.filter(pk=run.pk, state=RunState.PENDING)
        queued = pending.update(state=RunState.QUEUED, queued_at=seen.queued_at or now)
        if queued:
            run.state = RunState.QUEUED
            freezing.freeze_if_dag_paused(run, now=now)


def _stop(command: AirflowCommand, client: AirflowClient) -> None:
    """Have Airflow end the run and what of it is not over. Safe to repeat, on a run that it has ended too."""
    run = _run_of(command)
    if run.state != RunState.STOPPING:
        # Over since, by itself: what somebody begins anew in Airflow is not to be stopped.
        _finish(command, now=timezone.now())
        return
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
    run = _run_of(command)
    repeated = command.attempts > 1
    if not (repeated and _has_begun_again(run, client.runs.get(run.dag_id, run.dag_run_id))):
        clear(client, run, command.arguments, dry_run=False)
    _finish(command, now=timezone.now())


def _has_begun_again(run: Run, seen: types.DagRun) -> bool:
    """Whether Airflow has cleared the run since its attempt before: it may be over once more by now."""
    if seen.state in {"queued", "running"}:
        return True
    before = run.attempts.last()
    ended_at = before.ended_at if before else None
    return bool(seen.start_date and ended_at and seen.start_date > ended_at)


def clear(client: AirflowClient, run: Run, which: Mapping[str, Any], *, dry_run: bool) -> list[tuple[str, int]]:
    """Clear tasks of a run, or only list them; (task_id, map_index) of each."""
    refs = client.tasks.clear(run.dag_id, run.dag_run_id, dry_run=dry_run, **which)
    return sorted((ref.task_id, ref.map_index) for ref in refs)


def _set_paused(command: AirflowCommand, client: AirflowClient) -> None:
    """Pause or unpause the DAG. Safe to repeat: it sets a state."""
    dag = Dag.objects.get(commands=command)
    client.dags.set_paused(dag.dag_id, command.kind == CommandKind.PAUSE)
    _finish(command, now=timezone.now())


_KINDS: dict[CommandKind, Callable[[AirflowCommand, AirflowClient], None]] = {
    CommandKind.TRIGGER: _trigger,
    CommandKind.STOP: _stop,
    CommandKind.CLEAR: _clear,
    CommandKind.PAUSE: _set_paused,
    CommandKind.UNPAUSE: _set_paused,
}


# --- Failing -----------------------------------------------------------------------------------------------


def _settle_failure(command: AirflowCommand, exc: AirflowError, *, now: datetime) -> None:
    """Try again later, or give up where waiting does not help or the deadline has passed."""
    logger.warning(
        "command to Airflow failed",
        extra={"command": command.kind, "command_id": command.pk, "attempt": command.attempts, "error": str(exc)},
    )
    # Refused credentials are the operator's to mend; what was accepted waits for that.
    waits = exc.retryable or isinstance(exc, AirflowAuthError)
    first_due = max(command.created_at, command.run.run_at or command.created_at) if command.run else command.created_at
    if not waits or now - first_due > timedelta(seconds=settings.DISPATCH_DEADLINE):
        _give_up(command, reason=str(exc), now=now)
        return
    wait = backoff.delay(command.attempts, jitter=random.random())  # noqa: S311 - spreads load, hides nothing
    AirflowCommand.objects.filter(pk=command.pk).update(
        due_at=now + wait, leased_until=None, last_error=str(exc), may_have_arrived=command.may_have_arrived
    )


@transaction.atomic
def _give_up(command: AirflowCommand, *, reason: str, now: datetime) -> None:
    _finish(command, now=now, error=reason)
    verb = {CommandKind.TRIGGER: "hand the run over to", CommandKind.CLEAR: "retry the run in"}.get(
        CommandKind(command.kind)
    )
    if verb is None:
        return
    run = Run.objects.select_for_update().get(pk=_run_of(command).pk)
    explained = f"Could not {verb} Airflow: {reason}"
    if observe.move(run, to=RunState.FAILED, ended_at=now, state_reason=explained):
        observe.record_end(run, failed_tasks=[], now=now)
