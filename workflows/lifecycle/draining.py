"""A drained Airflow takes no new runs. When its last open run has ended, it is empty."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import transaction

from workflows.eventlog import events
from workflows.models import Airflow, Run

logger = logging.getLogger(__name__)

# A request that saw the Airflow before it was drained has stored its run by then.
SETTLED_AFTER = timedelta(seconds=30)


@transaction.atomic
def look(airflow: Airflow, *, now: datetime) -> bool:
    """Record that a drained Airflow is empty, if no run on it is open. Return whether this call did it."""
    if airflow.drained_at is None or now - airflow.drained_at < SETTLED_AFTER:
        return False
    if Run.objects.open().filter(airflow__name=airflow.name).exists():
        return False
    # Somebody may have undrained it since it was read.
    drained = Airflow.objects.filter(pk=airflow.pk, drained_at=airflow.drained_at, emptied_at__isnull=True)
    if not drained.update(emptied_at=now):
        return False
    logger.info("a drained Airflow is empty", extra={"airflow": airflow.name})
    events.record(events.AirflowEmptied(airflow=airflow.name, drained_at=airflow.drained_at), now=now)
    return True
