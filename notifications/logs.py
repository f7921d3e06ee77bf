"""The end of a failed task's log, for people. It is asked for once per try of the task, and never insisted on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from notifications.messages import EXCERPT
from notifications.transports.base import Message
from workflows import upstream
from workflows.airflow.errors import AirflowError
from workflows.events import WorkflowFailed
from workflows.models import AirflowState, Event, TaskInstance

LINES = 15


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
    try:
        tail = _tail(wanted)
    except AirflowError:
        return message
    return replace(message, excerpt=tail or message.excerpt)


@lru_cache(maxsize=128)
def _tail(wanted: Reference) -> str:
    chunk = upstream.airflow().tasks.log(
        wanted.dag_id, wanted.dag_run_id, wanted.task_id, try_number=wanted.try_number, map_index=wanted.map_index
    )
    lines = [line.text for line in chunk.lines]
    return "\n".join(lines[-LINES:])[-EXCERPT:]
