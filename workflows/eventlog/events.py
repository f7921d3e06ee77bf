"""The catalogue of events, and the one way to record them.

Each class is one type of event, and its fields are the envelope's `data`. An event is recorded in the transaction of
the change it describes. It becomes visible when `workflows.eventlog.publication` gives it a position.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, TypeVar, get_args

from rest.masking import mask_all
from rest.times import iso
from workflows.eventlog import recording
from workflows.models import Dag, Event, ResultState, Run, TriggerType
from workflows.states import RunState

if TYPE_CHECKING:
    from accounts.models import User

RetryMode = Literal["failed", "all", "from_task"]
PauseScope = Literal["run", "workflow"]
ExternalChange = Literal["cleared", "marked", "deleted", "recreated"]
PAUSE_SCOPES: tuple[PauseScope, ...] = get_args(PauseScope)


@dataclass(frozen=True, kw_only=True)
class EventData:
    """Base of the catalogue. `type` is the name on the wire."""

    type: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class RunEventData(EventData):
    """Base of the events of one run. Each carries the state and the attempt of the run after the event.

    `airflow` is the name of the Airflow that the run is in.
    """

    state: RunState
    attempt: int
    airflow: str


class RunFields(TypedDict):
    """The fields of `RunEventData`."""

    state: RunState
    attempt: int
    airflow: str


def fields_of(run: Run) -> RunFields:
    """Return what each event of a run carries: how the run is now."""
    return {"state": RunState(run.state), "attempt": run.attempt, "airflow": run.airflow_name}


class ResultData(TypedDict):
    """The result of a run: what its result task has returned, or why there is nothing.

    `value` is any JSON, and null in every state but `ready`. `size` is in bytes. `reference` says where Airflow has a
    result that is too large.
    """

    state: ResultState
    task_id: str
    value: Any
    size: int | None
    reason: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class TaskEventData(EventData):
    """Base of the events of one task instance. `state` is Airflow's word, `duration_s` is in seconds.

    `instance_id` is Airflow's id of the try, which tells the passes of a loop apart. 2.11 has none.
    """

    state: str
    map_index: int
    try_number: int
    instance_id: str | None = None
    duration_s: float | None = None


CATALOGUE: dict[str, type[EventData]] = {}
AnyEventData = TypeVar("AnyEventData", bound=type[EventData])


def _catalogued(cls: AnyEventData) -> AnyEventData:
    CATALOGUE[cls.type] = cls
    return cls


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowTriggered(RunEventData):
    """A run was accepted, or found to have been started in Airflow (`trigger_type: external`).

    `task_id` and `dataset_id` are the older names of the caller's references.
    """

    type = "workflow.triggered"
    dag_id: str
    dag_run_id: str
    trigger_type: TriggerType
    note: str
    task_id: int | str | None
    dataset_id: int | str | None
    caller_task_ref: int | str | None
    caller_dataset_ref: int | str | None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStarted(RunEventData):
    """Airflow's scheduler has started the run."""

    type = "workflow.started"
    started_at: datetime


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowCompleted(RunEventData):
    """The run has succeeded.

    `result` is null if the workflow names no `result_task`. If it is `pending`, `workflow.result` brings it.
    """

    type = "workflow.completed"
    duration_s: float | None
    result: ResultData | None = None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowResult(RunEventData):
    """The result of a run that has succeeded, if Airflow had not given it when `workflow.completed` was recorded.

    It comes at most once in an attempt, and never with `pending`.
    """

    type = "workflow.result"
    result: ResultData


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowFailed(RunEventData):
    """The run has failed in Airflow, or it could not be dispatched to Airflow."""

    type = "workflow.failed"
    reason: str
    failed_tasks: list[str]
    duration_s: float | None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStopped(RunEventData):
    """A requested stop is complete: no task instance has a process any more."""

    type = "workflow.stopped"
    by: str
    note: str
    reason: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowRetried(RunEventData):
    """Tasks of an ended run will run again."""

    type = "workflow.retried"
    mode: RetryMode
    note: str
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowPaused(RunEventData):
    """No further task of the run starts until it is resumed. With the scope `workflow`, its whole DAG is paused.

    Tasks that were at work go on to their end (`still_running`). Until then the run is `pausing`, not `paused`.
    """

    type = "workflow.paused"
    scope: PauseScope
    note: str
    by: str
    still_running: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowResumed(RunEventData):
    """The run may make progress again. With the scope `workflow`, its whole DAG is resumed."""

    type = "workflow.resumed"
    scope: PauseScope
    note: str
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowStopIncomplete(RunEventData):
    """A stop is not complete at its deadline. These task instances may still have a process."""

    type = "workflow.stop_incomplete"
    still_running: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class WorkflowExternalChange(RunEventData):
    """Somebody changed the run in Airflow itself: its tasks were cleared, or it was marked, deleted or made anew."""

    type = "workflow.external_change"
    change: ExternalChange


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskStarted(TaskEventData):
    """A try of a task instance has begun."""

    type = "task.started"
    started_at: datetime | None = None


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskCompleted(TaskEventData):
    """A task instance has succeeded."""

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
class TaskAwaitingInput(TaskEventData):
    """A task instance waits until a person has answered it in Airflow.

    Anybody may answer who may edit the DAG's runs there, or only the `respondents` if there are some. `params` are
    asked for beside the option, in the form of DAG parameters. After a timeout, Airflow takes the `defaults`. Without
    a subject and options, Airflow did not say what is asked.
    """

    type = "task.awaiting_input"
    subject: str
    body: str
    options: list[str]
    defaults: list[str]
    multiple: bool
    params: dict[str, Any]
    respondents: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class TaskInputReceived(TaskEventData):
    """A task instance was answered and goes on. `by` is empty if Airflow took the defaults after a timeout."""

    type = "task.input_received"
    chosen: list[str]
    params: dict[str, Any]
    by: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class DagSynced(EventData):
    """Our mirror of a DAG has changed, because Airflow's DAG has or by a pause here. `changed` names the fields.

    Only those who can see the DAG get this event.
    """

    type = "dag.synced"
    airflow: str
    dag_id: str
    changed: list[str]


@_catalogued
@dataclass(frozen=True, kw_only=True)
class DagImportError(EventData):
    """Airflow cannot import a DAG file. Only those who may manage every DAG of the file get this event."""

    type = "dag.import_error"
    airflow: str
    filename: str
    dag_ids: list[str]
    error: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class AirflowDown(EventData):
    """Airflow does not answer, or repeatedly says "not now". Runs accepted meanwhile are dispatched later."""

    type = "system.airflow_down"
    airflow: str
    reason: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class AirflowUp(EventData):
    """Airflow answers again."""

    type = "system.airflow_up"
    airflow: str
    version: str


@_catalogued
@dataclass(frozen=True, kw_only=True)
class AirflowEmptied(EventData):
    """A drained Airflow has no open run any more. It takes no new ones until it is undrained."""

    type = "system.airflow_emptied"
    airflow: str
    drained_at: datetime


@_catalogued
@dataclass(frozen=True, kw_only=True)
class NotificationFailed(EventData):
    """A notification config was disabled after a permanent failure, or one of its deliveries was given up."""

    type = "notification.failed"
    config_id: int
    name: str
    reason: str
    disabled: bool


def synced(dag: Dag, *, changed: list[str]) -> DagSynced:
    """Return the event of a change in our mirror of the DAG."""
    return DagSynced(airflow=dag.airflow_name, dag_id=dag.dag_id, changed=changed)


# The fields that quote what Airflow, a DAG author or a user has written.
QUOTING = {"reason", "error", "note", "subject", "body"}


def as_json(data: EventData) -> dict[str, Any]:
    """Return the envelope's `data`: what is stored, and what every transport sends. Secrets in quotes are masked."""
    fields = {name: _as_json(value) for name, value in asdict(data).items()}
    return fields | {name: mask_all(fields[name]) for name in QUOTING & fields.keys()}


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return value.value if isinstance(value, Enum) else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An event that is to be recorded.

    `run` gives the event its workflow, user and `seq`; only an event of a run that is new in this transaction names its
    `seq` itself. `dag` decides who may see an event about a DAG. `now` is the time of the event. An event of no run may
    belong to a `user`.
    """

    data: EventData
    now: datetime
    run: Run | None = None
    seq: int | None = None
    task_id: str = ""
    user: User | None = None
    dag: Dag | None = None


def record(
    data: EventData,
    *,
    now: datetime,
    run: Run | None = None,
    task_id: str = "",
    user: User | None = None,
    dag: Dag | None = None,
) -> Event:
    """Append one event to the log: `record_all` with the fields of one `Entry`."""
    [event] = record_all([Entry(data=data, now=now, run=run, task_id=task_id, user=user, dag=dag)])
    return event


def record_all(entries: Iterable[Entry]) -> list[Event]:
    """Append events to the log, in this order. Call this inside the transaction of the change that they describe.

    The entries may be of one run, of several and of none. All are inserted together, and the sinks in
    `settings.EVENT_SINKS` are called once, with all of them, in the same transaction. Publication follows the commit.
    """
    events = [_row(entry) for entry in entries]
    recording.append(events)
    return events


def _row(entry: Entry) -> Event:
    run = entry.run
    return Event(
        run=run,
        seq=entry.seq,
        workflow_id=run.workflow_id if run else None,
        user_id=run.user_id if run else getattr(entry.user, "pk", None),
        dag=entry.dag,
        type=entry.data.type,
        task_id=entry.task_id,
        timestamp=entry.now,
        data=as_json(entry.data),
    )
