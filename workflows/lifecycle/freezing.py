"""Which runs a paused DAG freezes, and how that is recorded."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from workflows.eventlog import events
from workflows.models import Dag, Run, RunQuerySet
from workflows.states import TASK_AT_WORK, RunState

FREEZABLE = (RunState.QUEUED, RunState.RUNNING)


def frozen_with(dag: Dag) -> RunQuerySet:
    """Return the runs in Airflow that start no further task while the DAG is paused."""
    return Run.objects.of_dag(dag).filter(state__in=FREEZABLE)


def differing(airflow: str) -> QuerySet[Dag]:
    """Return the DAGs of an Airflow with a run that is not marked as its DAG is.

    A run that Airflow takes while its DAG is paused or unpaused may be marked as the DAG was before.
    """
    runs = Run.objects.filter(airflow=OuterRef("airflow"), dag_id=OuterRef("dag_id"), state__in=FREEZABLE)
    return Dag.objects.of(airflow).filter(Exists(runs.exclude(paused=OuterRef("is_paused"))))


def set_paused(
    runs: Iterable[Run], *, paused: bool, scope: events.PauseScope, note: str, by: str, now: datetime
) -> None:
    """Mark each of `runs` that is not marked yet, with an event. Call this in the transaction of the cause."""
    for run in runs:
        if not Run.objects.filter(pk=run.pk, paused=not paused).update(paused=paused):
            continue
        run.paused = paused
        data: events.EventData
        if paused:
            at_work = sorted(str(task) for task in run.tasks.filter(state__in=TASK_AT_WORK))
            data = events.WorkflowPaused(**events.fields_of(run), scope=scope, note=note, by=by, still_running=at_work)
        else:
            data = events.WorkflowResumed(**events.fields_of(run), scope=scope, note=note, by=by)
        events.record(data, now=now, run=run)


def is_dag_paused(run: Run) -> bool:
    return Dag.objects.of_run(run).filter(is_paused=True).exists()


def freeze_if_dag_paused(run: Run, *, now: datetime) -> None:
    """Mark a run as paused if its DAG is. Call this in the transaction in which Airflow takes the run or a retry."""
    if is_dag_paused(run):
        set_paused([run], paused=True, scope="workflow", note="the DAG is paused", by="", now=now)


def follow_dag(dag: Dag, *, now: datetime) -> None:
    """Mark the runs of a DAG that was paused or unpaused in Airflow. Call this in the transaction that stores it."""
    runs = frozen_with(dag).filter(paused=not dag.is_paused)
    set_paused(runs, paused=dag.is_paused, scope="workflow", note="", by="Airflow", now=now)
