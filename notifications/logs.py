"""The end of a failed task's log, for people. It is asked for once per try of the task, and never insisted on."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock

import pybreaker

from notifications.messages import EXCERPT
from notifications.transports.base import Message
from workflows import upstream
from workflows.airflow.errors import AirflowError
from workflows.events import WorkflowFailed
from workflows.models import AirflowState, Event, TaskInstance

LINES = 15
READING_LIMIT = 5  # seconds
FOLDS = ("::group::", "::endgroup::")  # of Airflow's log view


@dataclass(frozen=True)
class Reference:
    """One try of one task, as Airflow names it."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    try_number: int


def reference(event: Event) -> Reference | None:
    """Whose log says why the run failed; None when none does, or Airflow can not be asked."""
    if event.type != WorkflowFailed.type or event.run is None or not AirflowState.current().reachable:
        return None
    failed = TaskInstance.objects.filter(run=event.run, state="failed", try_number__gt=0).order_by("ended_at", "id")
    task = failed.first()
    if task is None:
        return None
    return Reference(event.run.dag_id, event.run.dag_run_id, task.task_id, task.map_index, task.try_number)


def with_log(message: Message, wanted: Reference | None) -> Message:
    """The message with the end of the log; without it where Airflow does not answer. Touches no database."""
    if wanted is None:
        return message
    turn = _turn_of(wanted)
    # The second of two at the same time finds what the first has read. It does not wait for ever: a message
    # matters more than the log in it.
    if not turn.acquire(timeout=READING_LIMIT):
        return message
    try:
        with upstream.breaker().calling():
            tail = _tail(wanted)
    except (AirflowError, pybreaker.CircuitBreakerError):
        return message
    finally:
        turn.release()
    return replace(message, excerpt=tail or message.excerpt)


def _turn_of(wanted: Reference) -> Lock:
    with _turns:
        return _turn(wanted)


# A cache by itself gives two threads that miss it at once a value each.
_turns = Lock()


@lru_cache(maxsize=128)
def _turn(wanted: Reference) -> Lock:
    return Lock()


@lru_cache(maxsize=128)
def _tail(wanted: Reference) -> str:
    """The last lines; nothing of a log that takes too long to read to its end."""
    end = time.monotonic() + READING_LIMIT
    tail: deque[str] = deque(maxlen=LINES)
    at = {"try_number": wanted.try_number, "map_index": wanted.map_index}
    client = upstream.airflow(hurried=True)
    with closing(client.tasks.log_lines(wanted.dag_id, wanted.dag_run_id, wanted.task_id, **at)) as lines:
        for line in lines:
            if time.monotonic() > end:
                return ""
            if not line.text.startswith(FOLDS):
                tail.append(line.text)
    return "\n".join(tail)[-EXCERPT:]
