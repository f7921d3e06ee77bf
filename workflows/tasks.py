"""Background work. Each task is safe to run twice, at the same time, on any number of workers."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from celery import Task, shared_task
from django.utils import timezone

from rest.errors import BusyError
from workflows.airflow.errors import AirflowError
from workflows.dispatch import dispatcher
from workflows.eventlog import epochs, publication
from workflows.models import Airflow
from workflows.watch import dags
from workflows.watch import poll as watch

logger = logging.getLogger(__name__)

# Seconds after which a task that no worker has taken is dropped: the next one does the same.
TICK, SYNC = 10, 60


def _each(task: Task[[str], None], airflow: str, *, expires: int) -> Iterator[str]:
    """Yield the Airflow to work on now, if it is active.

    If beat asks for all of them and there are several, this sends a task for each and yields none: so they are worked
    on side by side, and one that is slow or down delays no other.
    """
    names = [name for name in Airflow.active_names() if airflow in ("", name)]
    if len(names) == 1:
        yield names[0]
        return
    for name in names:
        task.apply_async((name,), expires=expires)


@shared_task(expires=TICK)
def reconcile(airflow: str = "") -> None:
    """Poll each Airflow, or the named one, for changes. A late tick is dropped, not queued."""
    if not airflow:
        # Also if no Airflow is active.
        epochs.notice(now=timezone.now())
        publication.publish()
    for name in _each(reconcile, airflow, expires=TICK):
        watch.tick(name, now=timezone.now())


@shared_task(expires=TICK)
def dispatch(airflow: str = "") -> None:
    """Dispatch the commands to each Airflow, or to the named one, that were not dispatched at once."""
    for name in _each(dispatch, airflow, expires=TICK):
        dispatcher.dispatch_due(name, now=timezone.now())


@shared_task(expires=SYNC)
def sync_dags(airflow: str = "") -> None:
    """Mirror the DAGs of each Airflow, or of the named one. While it is down, the next turn catches up."""
    for name in _each(sync_dags, airflow, expires=SYNC):
        try:
            dags.sync_dags(name, now=timezone.now())
        except BusyError:
            logger.info("another worker syncs the DAGs", extra={"airflow": name})
        except AirflowError as exc:
            logger.warning("DAGs not synced", extra={"airflow": name, "error": str(exc)})
