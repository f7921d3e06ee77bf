"""Runs of our DAGs that somebody started in Airflow itself become runs here, with `trigger_type: external`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from workflows import gateway
from workflows.access import why_dag_is_closed
from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowError, AirflowNotFoundError
from workflows.lifecycle import freezing
from workflows.lifecycle.moves import accept
from workflows.models import Run, TriggerType, Visibility, Workflow
from workflows.states import RunState
from workflows.storable import storable
from workflows.watch.known import Key
from workflows.watch.observation import AIRFLOW_TERMINAL

logger = logging.getLogger(__name__)

# A push waits for the answers of Airflow. The next poll adopts the runs that this leaves out.
READ_FOR_A_PUSH = 20
# The ids of runs that `manage.py doctor` starts begin so. They are nobody's.
DOCTORS = "svops_doctor__"


def adopters(airflow: str, dag_ids: Collection[str]) -> dict[str, Workflow]:
    """Return the workflow of each DAG there that gets the runs started in Airflow itself. This is the one rule.

    1. The workflow that an admin has chosen (`adopts_airflow_runs`), also if it is private or inactive.
    2. If none is chosen, and all workflows of the DAG are internal: the oldest active one.
    3. Otherwise none, and such runs stay unknown here. A private workflow gets none by accident, and where the runs of
       a DAG are somebody's private matter, its other runs are not shown to everybody.

    Deleted workflows do not count. A workflow whose owner may not build on the DAG any more gets none. Whether the DAG
    is paused does not matter.
    """
    over_them = Workflow.objects.alive().filter(dag__airflow__name=airflow, dag__dag_id__in=dag_ids)
    alive = over_them.select_related("dag", "owner").order_by("id")
    by_dag: dict[str, list[Workflow]] = {}
    for workflow in alive:
        by_dag.setdefault(workflow.dag.dag_id, []).append(workflow)
    found = ((dag_id, _adopter(workflows)) for dag_id, workflows in by_dag.items())
    return {dag_id: workflow for dag_id, workflow in found if workflow}


def _adopter(workflows: list[Workflow]) -> Workflow | None:
    if chosen := next((workflow for workflow in workflows if workflow.adopts_airflow_runs), None):
        return None if why_dag_is_closed(chosen) else chosen
    if any(workflow.visibility != Visibility.INTERNAL for workflow in workflows):
        return None
    return next((workflow for workflow in workflows if workflow.is_active and not why_dag_is_closed(workflow)), None)


def adopt(client: AirflowClient, seen: Sequence[types.DagRun], *, pushed: bool, now: datetime) -> dict[Key, Run]:
    """Create a run for each open run of Airflow that a workflow gets. Return the created runs.

    The kind of the run does not matter: manual, scheduled, backfill, by an asset, or one of a later Airflow. A run that
    has ended already is not adopted.
    """
    begun = [run for run in seen if run.state not in AIRFLOW_TERMINAL and not run.dag_run_id.startswith(DOCTORS)]
    workflows = adopters(client.name, {run.dag_id for run in begun}) if begun else {}
    begun = [run for run in begun if run.dag_id in workflows]
    if pushed:
        begun = _read(client, begun)
    made = ((run, _adopt(run, workflows[run.dag_id], now=now)) for run in begun)
    return {(run.dag_id, run.dag_run_id): adopted for run, adopted in made if adopted}


def _read(client: AirflowClient, pushed: Sequence[types.DagRun]) -> list[types.DagRun]:
    """Read runs from Airflow, because a push has neither their conf nor their note."""
    found: list[types.DagRun] = []
    if not pushed or not gateway.answers(client.name):
        return found
    try:
        with client.within(settings.DISPATCH_BUDGET):
            for run in pushed[:READ_FOR_A_PUSH]:
                try:
                    found.append(client.runs.get(run.dag_id, run.dag_run_id))
                except AirflowNotFoundError:
                    continue  # deleted since, or not committed yet
    except AirflowError as exc:
        logger.info("a pushed run waits for the next poll", extra={"error": str(exc)})
    return found


def _adopt(seen: types.DagRun, workflow: Workflow, *, now: datetime) -> Run | None:
    start, end = seen.data_interval or (None, None)
    run = Run(
        workflow=workflow,
        airflow_id=workflow.dag.airflow_name,
        dag_id=seen.dag_id,
        dag_run_id=seen.dag_run_id,
        state=RunState.QUEUED,
        trigger_type=TriggerType.EXTERNAL,
        queued_at=seen.queued_at or now,
        logical_date=seen.logical_date,
        data_interval_start=start,
        data_interval_end=end,
        **_given(seen),
    )
    try:
        with transaction.atomic():
            accept(run, now=now)
            freezing.freeze_if_dag_paused(run, now=now)
    except IntegrityError:
        return None  # another worker has adopted it at the same time
    return run


def complete(run: Run, seen: types.DagRun) -> None:
    """Give an adopted run the parameters and the note that Airflow shows now. Somebody may change the note there."""
    given = _given(seen)
    if run.trigger_type == TriggerType.EXTERNAL and any(getattr(run, name) != value for name, value in given.items()):
        Run.objects.filter(pk=run.pk).update(**given)


def _given(seen: types.DagRun) -> dict[str, Any]:
    return {"parameters": storable(dict(seen.conf)), "note": storable(seen.note or "")}
