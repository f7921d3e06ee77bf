"""Pausing: a pending run is held here. A started run is frozen with its whole DAG: Airflow cannot pause one run."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from accounts import audit
from workflows.access import require_dag_runner, require_runner
from workflows.dispatch import commands, dispatcher
from workflows.eventlog import events
from workflows.eventlog.events import PauseScope
from workflows.lifecycle.freezing import frozen_with, set_paused
from workflows.models import Dag, Run, RunQuerySet
from workflows.services.errors import WouldFreezeError, WrongStateError
from workflows.services.runs import dispatch_and_reload
from workflows.states import RunState

if TYPE_CHECKING:
    from accounts.models import User

LISTED_AT_MOST = 100
PAUSABLE = (RunState.PENDING, RunState.QUEUED, RunState.RUNNING)


def pause_run(*, run: Run, actor: User, note: str = "", scope: PauseScope = "run") -> Run:
    """Hold a pending run. Pause the DAG of a started run.

    Raises `WouldFreezeError` with a list of runs when that would freeze other runs too and `scope` is not `workflow`,
    `NotAllowedError` if the actor may not run all that runs on the DAG, and `WrongStateError` when the run is paused
    already, is stopping or has ended.
    """
    require_runner(run.workflow, actor)
    _pause(run, actor, note=note, scope=scope, now=timezone.now())
    dispatcher.dispatch_now(run.dag)
    return dispatch_and_reload(run)


@transaction.atomic
def _pause(run: Run, actor: User, *, note: str, scope: PauseScope, now: datetime) -> None:
    run = Run.objects.select_for_update(of=("self",)).select_related("workflow__dag").get(pk=run.pk)
    audit.record("run.paused", run, after={"scope": scope, "note": note}, actor=actor)
    if run.paused:
        raise WrongStateError(run, f"paused: it is {'pausing' if run.is_pausing else 'paused'} already")
    if run.state not in PAUSABLE:
        raise WrongStateError(run, "paused")
    if run.state == RunState.PENDING:
        if not commands.hold_trigger(run, held=True, now=now):
            raise WrongStateError(run, "paused while it is being dispatched to Airflow; try again")
        set_paused([run], paused=True, scope="run", note=note, by=actor.get_username(), now=now)
        return
    dag = _dag_of(run)
    require_dag_runner(dag, actor)
    others = frozen_with(dag).exclude(pk=run.pk).visible_to(actor)
    if scope != "workflow" and others.exists():
        raise _would_freeze(others)
    _switch(dag, paused=True, note=note, by=actor.get_username(), now=now)


def resume_run(*, run: Run, actor: User, note: str = "") -> Run:
    """Undo a pause: release a held run, or unpause the DAG and with it all runs that it froze."""
    require_runner(run.workflow, actor)
    _resume(run, actor, note=note, now=timezone.now())
    dispatcher.dispatch_now(run.dag)
    return dispatch_and_reload(run)


@transaction.atomic
def _resume(run: Run, actor: User, *, note: str, now: datetime) -> None:
    run = Run.objects.select_for_update(of=("self",)).select_related("workflow__dag").get(pk=run.pk)
    audit.record("run.resumed", run, after={"note": note}, actor=actor)
    if not run.paused:
        raise WrongStateError(run, "resumed: it is not paused")
    if commands.hold_trigger(run, held=False, now=now):
        set_paused([run], paused=False, scope="run", note=note, by=actor.get_username(), now=now)
        return
    dag = _dag_of(run)
    require_dag_runner(dag, actor)
    _switch(dag, paused=False, note=note, by=actor.get_username(), now=now)


def set_dag_paused(*, dag: Dag, paused: bool, actor: User, note: str = "") -> Dag:
    """Pause or unpause a whole DAG. The actor must be allowed to run everything on it.

    Does nothing if the DAG is in that state.
    """
    require_dag_runner(dag, actor)
    with transaction.atomic():
        if dag.is_paused != paused:
            audit.record("dag.paused" if paused else "dag.resumed", dag, after={"note": note}, actor=actor)
        _switch(dag, paused=paused, note=note, by=actor.get_username(), now=timezone.now())
    dispatcher.dispatch_now(dag)
    dag.refresh_from_db()
    return dag


def _switch(dag: Dag, *, paused: bool, note: str, by: str, now: datetime) -> None:
    dag = Dag.objects.select_for_update().get(pk=dag.pk)
    runs = list(frozen_with(dag).filter(paused=not paused))
    if dag.is_paused == paused and not runs:
        return
    if dag.is_paused != paused:
        # If there is no run to freeze, this is the only event.
        Dag.objects.filter(pk=dag.pk).update(is_paused=paused)
        events.record(events.synced(dag, changed=["is_paused"]), now=now, dag=dag)
    set_paused(runs, paused=paused, scope="workflow", note=note, by=by, now=now)
    commands.record_pause(dag, paused=paused, now=now)


def _dag_of(run: Run) -> Dag:
    dag = run.dag
    if not run.is_on(dag):
        raise WrongStateError(run, f"paused or resumed: SVOps does not know its DAG {run.dag_id} any more")
    return dag


def _would_freeze(others: RunQuerySet) -> WouldFreezeError:
    count = others.count()
    listed = [
        {"run_id": str(run.pk), "workflow_id": run.workflow_id, "state": run.state} for run in others[:LISTED_AT_MOST]
    ]
    return WouldFreezeError(
        f'Airflow can only pause the whole DAG, which would freeze {count} other runs: send scope "workflow" to do so.',
        extra={"other_runs": count, "runs": listed},
    )
