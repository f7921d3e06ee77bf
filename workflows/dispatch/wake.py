"""Wake a worker that dispatches what is due, instead of waiting for beat's next tick."""

from __future__ import annotations

import logging

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from workflows.models import Airflow

logger = logging.getLogger(__name__)

TASK, EXPIRES = "workflows.tasks.dispatch", 10
# A caller waits meanwhile.
PATIENCE = {"socket_connect_timeout": 1, "socket_timeout": 1}


def wake_worker(airflow: str) -> None:
    """Send the task of beat's tick for an Airflow now. Call this after the commit of what is to be dispatched.

    A worker that is dispatching already finds it too: it asks again for what is due after it has given its lease back.
    Without Redis nothing is sent, and the next tick does it.
    """
    until = Airflow.named(airflow).dispatch_leased_until
    if until and until > timezone.now():
        return
    try:
        with current_app.connection_for_write(transport_options=PATIENCE) as connection:
            current_app.send_task(TASK, [airflow], connection=connection, expires=EXPIRES, retry=False)
    except OperationalError as exc:
        logger.warning("the dispatch waits for the next tick", extra={"error": type(exc).__name__})
