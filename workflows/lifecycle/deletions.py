"""Ended runs that somebody has deleted in Airflow. The sweep finds them, or a call that needs the run there."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowNotFoundError
from workflows.eventlog import events
from workflows.models import Run
from workflows.states import TERMINAL


def was_deleted(run: Run) -> bool:
    """Return whether it is recorded that the run was deleted in Airflow, and no new run there has its id."""
    recorded = run.events.filter(type=events.WorkflowExternalChange.type, data__change="deleted")
    return recorded.filter(data__attempt=run.attempt).exists()


def is_gone(client: AirflowClient, run: Run, *, now: datetime) -> bool:
    """Return whether the ended run was deleted in Airflow: ask there, and record it once. Raises `AirflowError`."""
    if was_deleted(run):
        return True
    if run.state not in TERMINAL:
        return False
    try:
        client.runs.get(run.dag_id, run.dag_run_id)
    except AirflowNotFoundError:
        _record(run, now=now)
        return True
    return False


@transaction.atomic
def _record(run: Run, *, now: datetime) -> None:
    """Record the deletion. The state stays: the run has ended as it did."""
    run = Run.objects.select_for_update().get(pk=run.pk)
    if run.state in TERMINAL and not was_deleted(run):
        data = events.WorkflowExternalChange(**events.fields_of(run), change="deleted")
        events.record(data, now=now, run=run)
