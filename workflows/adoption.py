"""Runs of our DAGs that somebody started in Airflow itself become runs here, with `trigger_type: external`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction

from workflows import freezing
from workflows.airflow import types
from workflows.models import Run, TriggerType, Workflow
from workflows.services.runs import accept
from workflows.states import RunState

Key = tuple[str, str]


def adopt(seen: Sequence[types.DagRun], *, now: datetime) -> dict[Key, Run]:
    """Make a run of each that is not over and whose DAG has a workflow; those that were made.

    Of several workflows over one DAG the oldest gets it. What is over already is history, not ours.
    """
    fresh = [run for run in seen if run.state in {"queued", "running"}]
    if not fresh:
        return {}
    alive = Workflow.objects.alive().filter(dag__dag_id__in={run.dag_id for run in fresh})
    owners = {workflow.dag.dag_id: workflow for workflow in alive.select_related("dag").order_by("-id")}
    made = ((run, _adopt(run, owners[run.dag_id], now=now)) for run in fresh if run.dag_id in owners)
    return {(run.dag_id, run.dag_run_id): adopted for run, adopted in made if adopted}


def _adopt(seen: types.DagRun, workflow: Workflow, *, now: datetime) -> Run | None:
    run = Run(
        workflow=workflow,
        dag_id=seen.dag_id,
        dag_run_id=seen.dag_run_id,
        state=RunState.QUEUED,
        trigger_type=TriggerType.EXTERNAL,
        parameters=dict(seen.conf),
        note=seen.note or "",
        queued_at=seen.queued_at or now,
    )
    try:
        with transaction.atomic():
            accept(run, now=now)
            freezing.freeze_if_dag_paused(run, now=now)
    except IntegrityError:
        return None  # another worker saw it at the same time
    return run
