"""Which runs a paused DAG freezes, and how that is recorded of them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from workflows import events
from workflows.models import Dag, Run, RunQuerySet
from workflows.states import RunState


def frozen_with(dag: Dag) -> RunQuerySet:
    """The runs that Airflow has and that make no progress while the DAG is paused."""
    return Run.objects.filter(dag_id=dag.dag_id, state__in=(RunState.QUEUED, RunState.RUNNING))


def set_paused(runs: Iterable[Run], *, paused: bool, scope: str, note: str, by: str, now: datetime) -> None:
    """Mark each of `runs` that is not so yet, with an event; call it in the transaction of the cause."""
    kind = events.WorkflowPaused if paused else events.WorkflowResumed
    for run in runs:
        if Run.objects.filter(pk=run.pk, paused=not paused).update(paused=paused):
            data = kind(state=run.state, attempt=run.attempt, scope=scope, note=note, by=by)
            events.record(data, now=now, run=run)


def freeze_if_dag_paused(run: Run, *, now: datetime) -> None:
    """Mark a run that Airflow has just taken, or takes again, when its DAG is paused; call it in that transaction."""
    if Dag.objects.filter(dag_id=run.dag_id, is_paused=True).exists():
        set_paused([run], paused=True, scope="workflow", note="the DAG is paused", by="", now=now)


def note_dag_paused(dag: Dag, *, now: datetime) -> None:
    """Somebody has paused or unpaused the DAG in Airflow; call it in the transaction that stores that."""
    runs = frozen_with(dag).filter(paused=not dag.is_paused)
    set_paused(runs, paused=dag.is_paused, scope="workflow", note="", by="Airflow", now=now)
