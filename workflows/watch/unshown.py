"""What the feeds of changes do not show, because Airflow has not changed what they ask for. A poll asks for it too.

Most polls ask for nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from django.db.models import Q, QuerySet

from workflows.airflow import AirflowClient, types
from workflows.airflow.errors import AirflowForbiddenError, AirflowNotFoundError, AirflowRejectedError
from workflows.models import Run, TaskInstance, Workflow
from workflows.states import OPEN, TASK_PAUSED
from workflows.watch import adoption
from workflows.watch.known import Key

logger = logging.getLogger(__name__)

# How many open runs of Airflow a poll reads because a workflow is new, and how many of them it adopts.
OPEN_RUNS = 1000
ADOPTED_AT_ONCE = 200


def resumed_tasks(client: AirflowClient, *, since: datetime) -> list[types.TaskInstance]:
    """Return the tasks that run again since then, after they had waited. Airflow's audit log names them.

    Without the right to read the audit log, a sweep finds them.
    """
    waiting = _waiting(client.name)
    if not waiting.exists():
        return []
    try:
        begun = client.tasks.begun_since(since)
    except (AirflowForbiddenError, AirflowNotFoundError, AirflowRejectedError) as exc:
        logger.info("audit log of Airflow not read", extra={"error": str(exc)})
        return []
    of_begun = waiting.filter(
        run__dag_id__in={ref.dag_id for ref in begun}, run__dag_run_id__in={ref.dag_run_id for ref in begun}
    )
    ours = {
        types.TaskRef(dag_id=dag_id, dag_run_id=dag_run_id, task_id=task_id, map_index=map_index)
        for dag_id, dag_run_id, task_id, map_index in of_begun.values_list(
            "run__dag_id", "run__dag_run_id", "task_id", "map_index"
        )
    }
    try:
        return client.tasks.running(begun & ours)
    except AirflowForbiddenError as exc:
        # One of these DAGs is hidden from our user: 2.x then refuses all of them. A sweep finds the others.
        logger.info("resumed tasks not read", extra={"error": str(exc)})
        return []


def _waiting(airflow: str) -> QuerySet[TaskInstance]:
    # Such a task keeps its start when it goes on, so the feed by starts leaves it out.
    began_before = Q(state__in=("scheduled", "queued"), started_at__isnull=False)
    return TaskInstance.objects.filter(
        Q(state__in=TASK_PAUSED) | began_before, run__state__in=OPEN, run__airflow__name=airflow
    ).order_by()


def runs_to_adopt(client: AirflowClient, *, since: datetime, until: datetime) -> Mapping[Key, types.DagRun]:
    """Return the open runs that nobody knew here, and that a workflow may get which was made or changed meanwhile."""
    changed = Workflow.objects.filter(dag__airflow__name=client.name, updated_at__gte=since, updated_at__lte=until)
    adopting = adoption.adopters(client.name, set(changed.values_list("dag__dag_id", flat=True)))
    if not adopting:
        return {}
    listed = client.runs.list(dag_ids=adopting.keys(), states=("queued", "running"), at_most=OPEN_RUNS)
    known = set(
        Run.objects.filter(
            airflow__name=client.name, dag_id__in=adopting, dag_run_id__in={run.dag_run_id for run in listed}
        ).values_list("dag_id", "dag_run_id")
    )
    unknown = {(run.dag_id, run.dag_run_id): run for run in listed if (run.dag_id, run.dag_run_id) not in known}
    return dict(list(unknown.items())[:ADOPTED_AT_ONCE])
