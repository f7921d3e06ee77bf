"""Background work. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

import logging

from celery import shared_task
from django.utils import timezone

from rest.errors import BusyError
from workflows.airflow.errors import AirflowError
from workflows.dispatch import dispatcher
from workflows.watch import dags
from workflows.watch import poll as watch

logger = logging.getLogger(__name__)


@shared_task(expires=10)
def reconcile() -> None:
    """Poll Airflow for changes. A late tick is dropped, not queued."""
    watch.tick(now=timezone.now())


@shared_task(expires=10)
def dispatch() -> None:
    """Dispatch the commands to Airflow that were not dispatched at once."""
    dispatcher.dispatch_due(now=timezone.now())


@shared_task(expires=60)
def sync_dags() -> None:
    """Mirror Airflow's DAGs. While Airflow is down this does nothing; the next turn catches up."""
    try:
        dags.sync_dags(now=timezone.now())
    except BusyError:
        logger.info("another worker syncs the DAGs")
    except AirflowError as exc:
        logger.warning("DAGs not synced", extra={"error": str(exc)})
