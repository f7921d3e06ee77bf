"""The catalogue of events, and the one way to record one.

Each class is one type of event and its fields are the envelope's `data`. An event is recorded in the same
transaction as the change it tells of, and becomes visible when `workflows.outbox` gives it a position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, TypeVar

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils.module_loading import import_string

from workflows import outbox
from workflows.models import Event, Run

if TYPE_CHECKING:
    from accounts.models import User


@dataclass(frozen=True, kw_only=True)
class EventData:
    """Base of the catalogue. `type` is the name on the wire."""

    type: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class RunEventData(EventData):
    """Base of what happens to one run; each carries the state and the attempt the run is in after it."""

    state: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class TaskEventData(EventData):
    """Base of what happens to one task instance. `state` is Airflow's word, `duration_s` in seconds."""

    state: str
    map_index: int
    try_number: int
    duration_s: float | None = None


CATALOGUE: dict[str, type[EventData]] = {}
AnyEventData = TypeVar("AnyEventData", bound=type[EventData])


def _catalogued(cls: AnyEventData) -> AnyEventData:
    CATALOGUE[cls.type] = cls
    return cls


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowTriggered(RunEventData):
    """A run was accepted, or found to have been started in Airflow (`trigger_type: external`)."""

    type = "workflow.triggered"
    dag_id: str
    dag_run_id: str
    trigger_type: str
    note: str
    task_id: int | str | None
    dataset_id: int | str | None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStarted(RunEventData):
    """Airflow's scheduler has started the run."""

    type = "workflow.started"
    started_at: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowCompleted(RunEventData):
    """The run has ended in success."""

    type = "workflow.completed"
    duration_s: float | None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowFailed(RunEventData):
    """The run has ended in failure, here (it could not be handed over) or in Airflow."""

    type = "workflow.failed"
    reason: str
    failed_tasks: list[str]
    duration_s: float | None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStopped(RunEventData):
    """A stop that somebody asked for is complete: no task instance has a process any more."""

    type = "workflow.stopped"
    note: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowRetried(RunEventData):
    """Tasks of an ended run will run again. `mode` is `failed`, `all` or `from_task`."""

    type = "workflow.retried"
    mode: str
    note: str
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowPaused(RunEventData):
    """The run can make no progress until it is resumed. `scope` is `run` or `workflow`."""

    type = "workflow.paused"
    scope: str
    note: str
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowResumed(RunEventData):
    """The run may make progress again. `scope` is `run` or `workflow`."""

    type = "workflow.resumed"
    scope: str
    note: str
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStopIncomplete(RunEventData):
    """A stop is not complete at its deadline; these task instances may still have a process."""

    type = "workflow.stop_incomplete"
    still_running: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowExternalChange(RunEventData):
    """Somebody changed the run in Airflow itself. `change` is `cleared`, `marked` or `deleted`."""

    type = "workflow.external_change"
    change: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskStarted(TaskEventData):
    """A try of a task instance has begun."""

    type = "task.started"
    started_at: str | None = None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskCompleted(TaskEventData):
    """A task instance has ended in success."""

    type = "task.completed"


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskFailed(TaskEventData):
    """A task instance has failed and will not be tried again."""

    type = "task.failed"


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskRetrying(TaskEventData):
    """A try has failed; Airflow will try again."""

    type = "task.retrying"


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskSkipped(TaskEventData):
    """A task instance will not run: skipped, removed, or an upstream task failed (`state` says which)."""

    type = "task.skipped"


@_catalogued
@dataclass(frozen=True, kw_only=True)
class DagSynced(EventData):
    """Our mirror of a DAG has changed, by a look at Airflow or by a pause here; `changed` names the fields."""

    type = "dag.synced"
    dag_id: str
    changed: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class DagImportError(EventData):
    """Airflow can not import a DAG file."""

    type = "dag.import_error"
    filename: str
    dag_ids: list[str]
    error: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class AirflowDown(EventData):
    """Airflow does not answer, or says "not now" time after time. What is accepted meanwhile is handed over later."""

    type = "system.airflow_down"
    reason: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class AirflowUp(EventData):
    """Airflow answers again."""

    type = "system.airflow_up"
    version: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class NotificationFailed(EventData):
    """A notification config was disabled after a permanent failure, or its delivery was given up."""

    type = "notification.failed"
    config_id: int
    name: str
    reason: str
    disabled: bool


Sink = Callable[[Event], None]


def record(
    data: EventData, *, now: datetime, run: Run | None = None, task_id: str = "", user: User | None = None
) -> Event:
    """Append to the log; call it inside the transaction of the change it describes.

    `run` gives the event its workflow, user and `seq`. Sinks named in `settings.EVENT_SINKS` are called within
    the same transaction; publication follows its commit.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("record() must share the transaction of the change")
    event = Event.objects.create(
        run=run,
        seq=_next_seq(run) if run else None,
        workflow_id=run.workflow_id if run else None,
        user_id=run.user_id if run else getattr(user, "pk", None),
        type=data.type,
        task_id=task_id,
        timestamp=now,
        data=asdict(data),
    )
    for sink in settings.EVENT_SINKS:
        import_string(sink)(event)
    # Robust: the event is committed by then, and whoever publishes next takes it along.
    transaction.on_commit(outbox.publish, robust=True)
    return event


def _next_seq(run: Run) -> int:
    # The UPDATE locks the run's row until commit, so seq has no gaps and no duplicates. An id drawn from a
    # sequence could not promise that: ids are handed out before commit.
    Run.objects.filter(pk=run.pk).update(event_count=F("event_count") + 1)
    run.refresh_from_db(fields=["event_count"])
    return run.event_count
