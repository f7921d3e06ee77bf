"""Background work. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from workflows import dag_sync, handover
from workflows import reconcile as watch
from workflows.airflow.errors import AirflowError

logger = logging.getLogger(__name__)


@shared_task(expires=10)
def reconcile() -> None:
    """Look at what has changed in Airflow. A tick that is late is dropped, not queued up."""
    watch.tick(now=timezone.now())


@shared_task(expires=10)
def dispatch() -> None:
    """Carry out what is owed to Airflow and was not carried out at once."""
    handover.carry_out_due(now=timezone.now())


@shared_task(expires=60)
def sync_dags() -> None:
    """Mirror Airflow's DAGs; while Airflow is down the next turn makes up for this one."""
    try:
        dag_sync.sync_dags(now=timezone.now())
    except AirflowError as exc:
        logger.warning("DAGs not synced", extra={"error": str(exc)})
