"""Pausing: a pending run is held here, a started one freezes with its whole DAG, since Airflow knows no other way."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from accounts import audit
from workflows import events, handover
from workflows.access import require_runner
from workflows.freezing import frozen_with, set_paused
from workflows.models import CommandKind, Dag, Run, RunQuerySet
from workflows.services.errors import WouldFreezeError, WrongStateError
from workflows.services.runs import handed_over
from workflows.states import RunState

if TYPE_CHECKING:
    from accounts.models import User

PAUSABLE = (RunState.PENDING, RunState.QUEUED, RunState.RUNNING)


def pause_run(*, run: Run, actor: User, note: str = "", scope: str = "run") -> Run:
    """Hold a pending run; of a started one, pause the DAG.

    Raises `WouldFreezeError` with the list when that would freeze other runs too and `scope` is not `workflow`,
    `WrongStateError` when the run is paused, stopping or over.
    """
    require_runner(run.workflow, actor)
    _pause(run, actor, note=note, scope=scope, now=timezone.now())
    handover.try_now(dag=run.workflow.dag)
    return handed_over(run)


@transaction.atomic
def _pause(run: Run, actor: User, *, note: str, scope: str, now: datetime) -> None:
    run = Run.objects.select_for_update(of=("self",)).select_related("workflow__dag").get(pk=run.pk)
    audit.record("run.paused", run, after={"scope": scope, "note": note}, actor=actor)
    if run.paused:
        raise WrongStateError(run, "paused: it is already")
    if run.state not in PAUSABLE:
        raise WrongStateError(run, "paused")
    if run.state == RunState.PENDING:
        if not handover.hold_trigger(run, held=True, now=now):
            raise WrongStateError(run, "paused while it is being handed over to Airflow; try again")
        set_paused([run], paused=True, scope="run", note=note, by=actor.get_username(), now=now)
        return
    others = frozen_with(run.workflow.dag).exclude(pk=run.pk)
    if scope != "workflow" and others.exists():
        raise _would_freeze(others, actor)
    _switch(run.workflow.dag, paused=True, note=note, by=actor.get_username(), now=now)


def resume_run(*, run: Run, actor: User, note: str = "") -> Run:
    """Undo a pause: let a held run go, or unpause the DAG with all that it froze."""
    require_runner(run.workflow, actor)
    _resume(run, actor, note=note, now=timezone.now())
    handover.try_now(dag=run.workflow.dag)
    return handed_over(run)


@transaction.atomic
def _resume(run: Run, actor: User, *, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update(of=("self",)).select_related("workflow__dag").get(pk=run.pk)
    audit.record("run.resumed", run, after={"note": note}, actor=actor)
    if not run.paused:
        raise WrongStateError(run, "resumed: it is not paused")
    if handover.hold_trigger(run, held=False, now=now):
        set_paused([run], paused=False, scope="run", note=note, by=actor.get_username(), now=now)
        return
    _switch(run.workflow.dag, paused=False, note=note, by=actor.get_username(), now=now)


def set_dag_paused(*, dag: Dag, paused: bool, actor: User, note: str = "") -> Dag:
    """Pause or unpause a whole DAG; nothing happens when it is so already."""
    with transaction.atomic():
        if dag.is_paused != paused:
            audit.record("dag.paused" if paused else "dag.resumed", dag, after={"note": note}, actor=actor)
        _switch(dag, paused=paused, note=note, by=actor.get_username(), now=timezone.now())
    handover.try_now(dag=dag)
    dag.refresh_from_db()
    return dag


def _switch(dag: Dag, *, paused: bool, note: str, by: str, now: datetime) -> None:
    dag = Dag.objects.select_for_update().get(pk=dag.pk)
    runs = list(frozen_with(dag).filter(paused=not paused))
    if dag.is_paused == paused and not runs:
        return
    if dag.is_paused != paused:
        # With no run to freeze, this is all that there is to tell.
        Dag.objects.filter(pk=dag.pk).update(is_paused=paused)
        events.record(events.DagSynced(dag_id=dag.dag_id, changed=["is_paused"]), now=now)
    set_paused(runs, paused=paused, scope="workflow", note=note, by=by, now=now)
    handover.owe(CommandKind.PAUSE if paused else CommandKind.UNPAUSE, dag=dag, now=now)


def _would_freeze(others: RunQuerySet, actor: User) -> WouldFreezeError:
    count = others.count()
    visible = others.visible_to(actor)[:100]
    listed = [{"run_id": str(run.pk), "workflow_id": run.workflow_id, "state": run.state} for run in visible]
    return WouldFreezeError(
        f'Airflow can only pause the whole DAG, which would freeze {count} other runs: send scope "workflow" to do so.',
        extra={"other_runs": count, "runs": listed},
    )
