"""The end of a failed task's log, for people. It is read once per try of the task, and a message can go without it."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock

from notifications.messages import EXCERPT
from notifications.transports.base import Message
from rest.masking import mask
from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowError
from workflows.eventlog.events import WorkflowFailed
from workflows.models import Airflow, Event, TaskInstance

LINES = 15
READING_LIMIT = 5  # seconds
FOLDS = ("::group::", "::endgroup::")  # of Airflow's log view


@dataclass(frozen=True)
class Reference:
    """One try of one task, as its Airflow names it."""

    # Whoever asks it has no connection to the database, and so cannot find it.
    client: AirflowClient = field(compare=False, repr=False)
    airflow: str
    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    try_number: int


def reference(event: Event) -> Reference | None:
    """Return the task whose log says why the run failed; None if there is none, or Airflow is not reachable."""
    if event.type != WorkflowFailed.type or event.run is None or not Airflow.named(event.run.airflow_name).reachable:
        return None
    failed = TaskInstance.objects.filter(run=event.run, state="failed", try_number__gt=0).order_by("ended_at", "id")
    task = failed.first()
    if task is None:
        return None
    run = event.run
    try:
        client = gateway.client_of(run.airflow_name, hurried=True, purpose=gateway.Purpose.LOGS)
    except AirflowError:
        return None
    return Reference(
        client, run.airflow_name, run.dag_id, run.dag_run_id, task.task_id, task.map_index, task.try_number
    )


def with_log(message: Message, log: Reference | None) -> Message:
    """Return the message with the end of the log, or without it if Airflow does not answer. Touches no database."""
    if log is None:
        return message
    turn = _turn_of(log)
    # Of two threads, the second finds what the first has read. It waits only for a while: the message matters more
    # than the log in it.
    if not turn.acquire(timeout=READING_LIMIT):
        return message
    try:
        tail = _tail(log)
    except AirflowError:
        return message
    finally:
        turn.release()
    return replace(message, excerpt=tail or message.excerpt)


def _turn_of(log: Reference) -> Lock:
    with _turns:
        return _turn(log)


# Without a lock, the cache gives two threads that miss it at once one value each.
_turns = Lock()


@lru_cache(maxsize=128)
def _turn(log: Reference) -> Lock:
    return Lock()


@lru_cache(maxsize=128)
def _tail(log: Reference) -> str:
    """Return the last lines; nothing if the log takes too long to read to its end."""
    end = time.monotonic() + READING_LIMIT
    tail: deque[str] = deque(maxlen=LINES)
    at = {"try_number": log.try_number, "map_index": log.map_index}
    with (
        gateway.patient(log.client) as client,
        closing(client.tasks.log_lines(log.dag_id, log.dag_run_id, log.task_id, **at)) as lines,
    ):
        for line in lines:
            if time.monotonic() > end:
                return ""
            if not line.text.startswith(FOLDS):
                tail.append(line.text)
    return mask("\n".join(tail))[-EXCERPT:]
