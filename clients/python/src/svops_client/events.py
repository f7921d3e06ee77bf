"""The events of the platform, each with its `data`. Made by `make_events.py`; do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from svops_client.envelope import Event
from svops_client.models import Result


@dataclass(frozen=True, kw_only=True)
class WorkflowTriggeredData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    dag_id: str
    dag_run_id: str
    trigger_type: Literal["api", "command", "admin", "external"]
    note: str
    task_id: int | str | None
    dataset_id: int | str | None
    caller_task_ref: int | str | None
    caller_dataset_ref: int | str | None


@dataclass(frozen=True, kw_only=True)
class WorkflowTriggered(Event):
    """A run was accepted, or found to have been started in Airflow (`trigger_type: external`).

    `task_id` and `dataset_id` are the older names of the caller's references.
    """

    data: WorkflowTriggeredData


@dataclass(frozen=True, kw_only=True)
class WorkflowStartedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class WorkflowStarted(Event):
    """Airflow's scheduler has started the run."""

    data: WorkflowStartedData


@dataclass(frozen=True, kw_only=True)
class WorkflowCompletedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    duration_s: float | None
    result: Result | None


@dataclass(frozen=True, kw_only=True)
class WorkflowCompleted(Event):
    """The run has succeeded.

    `result` is null if the workflow names no `result_task`. If it is `pending`, `workflow.result` brings it.
    """

    data: WorkflowCompletedData


@dataclass(frozen=True, kw_only=True)
class WorkflowResultData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    result: Result


@dataclass(frozen=True, kw_only=True)
class WorkflowResult(Event):
    """The result of a run that has succeeded, if Airflow had not given it when `workflow.completed` was recorded.

    It comes at most once in an attempt, and never with `pending`.
    """

    data: WorkflowResultData


@dataclass(frozen=True, kw_only=True)
class WorkflowFailedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    reason: str
    failed_tasks: list[str]
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class WorkflowFailed(Event):
    """The run has failed in Airflow, or it could not be dispatched to Airflow."""

    data: WorkflowFailedData


@dataclass(frozen=True, kw_only=True)
class WorkflowStoppedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    by: str
    note: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class WorkflowStopped(Event):
    """A requested stop is complete: no task instance has a process any more."""

    data: WorkflowStoppedData


@dataclass(frozen=True, kw_only=True)
class WorkflowRetriedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    mode: Literal["failed", "all", "from_task"]
    note: str
    by: str


@dataclass(frozen=True, kw_only=True)
class WorkflowRetried(Event):
    """Tasks of an ended run will run again."""

    data: WorkflowRetriedData


@dataclass(frozen=True, kw_only=True)
class WorkflowPausedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    scope: Literal["run", "workflow"]
    note: str
    by: str
    still_running: list[str]


@dataclass(frozen=True, kw_only=True)
class WorkflowPaused(Event):
    """No further task of the run starts until it is resumed. With the scope `workflow`, its whole DAG is paused.

    Tasks that were at work go on to their end (`still_running`). Until then the run is `pausing`, not `paused`.
    """

    data: WorkflowPausedData


@dataclass(frozen=True, kw_only=True)
class WorkflowResumedData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    scope: Literal["run", "workflow"]
    note: str
    by: str


@dataclass(frozen=True, kw_only=True)
class WorkflowResumed(Event):
    """The run may make progress again. With the scope `workflow`, its whole DAG is resumed."""

    data: WorkflowResumedData


@dataclass(frozen=True, kw_only=True)
class WorkflowStopIncompleteData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    still_running: list[str]


@dataclass(frozen=True, kw_only=True)
class WorkflowStopIncomplete(Event):
    """A stop is not complete at its deadline. These task instances may still have a process."""

    data: WorkflowStopIncompleteData


@dataclass(frozen=True, kw_only=True)
class WorkflowExternalChangeData:
    state: Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
    attempt: int
    airflow: str
    change: Literal["cleared", "marked", "deleted", "recreated"]


@dataclass(frozen=True, kw_only=True)
class WorkflowExternalChange(Event):
    """Somebody changed the run in Airflow itself: its tasks were cleared, or it was marked, deleted or made anew."""

    data: WorkflowExternalChangeData


@dataclass(frozen=True, kw_only=True)
class TaskStartedData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None
    started_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """A try of a task instance has begun."""

    data: TaskStartedData


@dataclass(frozen=True, kw_only=True)
class TaskCompletedData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class TaskCompleted(Event):
    """A task instance has succeeded."""

    data: TaskCompletedData


@dataclass(frozen=True, kw_only=True)
class TaskFailedData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class TaskFailed(Event):
    """A task instance has failed and will not be tried again."""

    data: TaskFailedData


@dataclass(frozen=True, kw_only=True)
class TaskRetryingData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class TaskRetrying(Event):
    """A try has failed; Airflow will try again."""

    data: TaskRetryingData


@dataclass(frozen=True, kw_only=True)
class TaskSkippedData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class TaskSkipped(Event):
    """A task instance will not run: skipped, removed, or an upstream task failed (`state` says which)."""

    data: TaskSkippedData


@dataclass(frozen=True, kw_only=True)
class TaskAwaitingInputData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None
    subject: str
    body: str
    options: list[str]
    defaults: list[str]
    multiple: bool
    params: dict[str, Any]
    respondents: list[str]


@dataclass(frozen=True, kw_only=True)
class TaskAwaitingInput(Event):
    """A task instance waits until a person has answered it in Airflow.

    Anybody may answer who may edit the DAG's runs there, or only the `respondents` if there are some. `params` are
    asked for beside the option, in the form of DAG parameters. After a timeout, Airflow takes the `defaults`. Without
    a subject and options, Airflow did not say what is asked.
    """

    data: TaskAwaitingInputData


@dataclass(frozen=True, kw_only=True)
class TaskInputReceivedData:
    state: str
    map_index: int
    try_number: int
    instance_id: str | None
    duration_s: float | None
    chosen: list[str]
    params: dict[str, Any]
    by: str


@dataclass(frozen=True, kw_only=True)
class TaskInputReceived(Event):
    """A task instance was answered and goes on. `by` is empty if Airflow took the defaults after a timeout."""

    data: TaskInputReceivedData


@dataclass(frozen=True, kw_only=True)
class DagSyncedData:
    airflow: str
    dag_id: str
    changed: list[str]


@dataclass(frozen=True, kw_only=True)
class DagSynced(Event):
    """Our mirror of a DAG has changed, because Airflow's DAG has or by a pause here. `changed` names the fields.

    Only those who can see the DAG get this event.
    """

    data: DagSyncedData


@dataclass(frozen=True, kw_only=True)
class DagImportErrorData:
    airflow: str
    filename: str
    dag_ids: list[str]
    error: str


@dataclass(frozen=True, kw_only=True)
class DagImportError(Event):
    """Airflow cannot import a DAG file. Only those who may manage every DAG of the file get this event."""

    data: DagImportErrorData


@dataclass(frozen=True, kw_only=True)
class AirflowDownData:
    airflow: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AirflowDown(Event):
    """Airflow does not answer, or repeatedly says "not now". Runs accepted meanwhile are dispatched later."""

    data: AirflowDownData


@dataclass(frozen=True, kw_only=True)
class AirflowUpData:
    airflow: str
    version: str


@dataclass(frozen=True, kw_only=True)
class AirflowUp(Event):
    """Airflow answers again."""

    data: AirflowUpData


@dataclass(frozen=True, kw_only=True)
class AirflowEmptiedData:
    airflow: str
    drained_at: datetime


@dataclass(frozen=True, kw_only=True)
class AirflowEmptied(Event):
    """A drained Airflow has no open run any more. It takes no new ones until it is undrained."""

    data: AirflowEmptiedData


@dataclass(frozen=True, kw_only=True)
class NotificationFailedData:
    config_id: int
    name: str
    reason: str
    disabled: bool


@dataclass(frozen=True, kw_only=True)
class NotificationFailed(Event):
    """A notification config was disabled after a permanent failure, or one of its deliveries was given up."""

    data: NotificationFailedData


BY_TYPE: dict[str, type[Event]] = {
    "workflow.triggered": WorkflowTriggered,
    "workflow.started": WorkflowStarted,
    "workflow.completed": WorkflowCompleted,
    "workflow.result": WorkflowResult,
    "workflow.failed": WorkflowFailed,
    "workflow.stopped": WorkflowStopped,
    "workflow.retried": WorkflowRetried,
    "workflow.paused": WorkflowPaused,
    "workflow.resumed": WorkflowResumed,
    "workflow.stop_incomplete": WorkflowStopIncomplete,
    "workflow.external_change": WorkflowExternalChange,
    "task.started": TaskStarted,
    "task.completed": TaskCompleted,
    "task.failed": TaskFailed,
    "task.retrying": TaskRetrying,
    "task.skipped": TaskSkipped,
    "task.awaiting_input": TaskAwaitingInput,
    "task.input_received": TaskInputReceived,
    "dag.synced": DagSynced,
    "dag.import_error": DagImportError,
    "system.airflow_down": AirflowDown,
    "system.airflow_up": AirflowUp,
    "system.airflow_emptied": AirflowEmptied,
    "notification.failed": NotificationFailed,
}
