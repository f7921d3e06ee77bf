"""What the API answers, as typed objects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

RunState = Literal["pending", "queued", "running", "stopping", "success", "failed", "stopped"]
TERMINAL: frozenset[str] = frozenset({"success", "failed", "stopped"})
Reference = int | str


@dataclass(frozen=True, kw_only=True)
class WorkflowInfo:
    """A workflow. `hindrance` and `default_parameters` are None in a list."""

    id: int
    name: str
    description: str
    airflow: str
    dag_id: str
    owner_id: int
    owner: str
    is_active: bool
    is_paused: bool
    visibility: Literal["internal", "private"]
    default_parameters: dict[str, Any] | None
    hindrance: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Interval:
    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An earlier attempt of a run, as it ended."""

    number: int
    state: RunState
    state_reason: str
    failed_tasks: list[str]
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the `result_task` of the workflow has returned, or why there is nothing.

    `value` is any JSON, and None in every state but `ready`. `size` is in bytes. `reference` says where Airflow has a
    result that is too large.
    """

    state: Literal["none", "pending", "ready", "missing", "too_large", "unavailable"]
    task_id: str
    value: Any
    size: int | None
    reason: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run. `parameters` is None in a list, `attempts` and `result` also after a trigger."""

    id: str
    workflow_id: int
    workflow_name: str
    airflow: str
    dag_id: str
    dag_run_id: str
    state: RunState
    state_reason: str
    paused: bool
    pausing: bool
    trigger_type: str
    user_id: int | None
    username: str | None
    task_id: Reference | None
    dataset_id: Reference | None
    parameters: dict[str, Any] | None
    note: str
    attempt: int
    created_at: datetime
    run_at: datetime | None
    logical_date: datetime | None
    data_interval: Interval | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    observed_at: datetime | None
    stale: bool
    attempts: list[Attempt] | None
    result: Result | None


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """A task instance of a run. `state` is Airflow's word."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int
    operator: str | None
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    instance_id: str | None
    question: dict[str, Any] | None
    observed_at: datetime | None
    stale: bool

    @property
    def name(self) -> str:
        """`task_id`, or `task_id[map_index]` for an instance of a mapped task."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, kw_only=True)
class TaskRef:
    task_id: str
    map_index: int


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line of the log of one try of a task."""

    task_id: str
    map_index: int
    try_number: int
    timestamp: datetime | None
    level: str | None
    text: str
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a run makes no progress or has failed, who can act, and what they can do."""

    code: str
    reason: str
    who: str
    action: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    state: RunState
    reasons: list[Reason]

    def __str__(self) -> str:
        return "\n".join(f"{one.reason} {one.action}".strip() for one in self.reasons)


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Gives one run to a browser, or to a person without an account, until `expires_at`."""

    id: int
    run_id: str
    actions: list[str]
    expires_at: datetime
    ticket: str


@dataclass(frozen=True, kw_only=True)
class Me:
    """Whose credentials these are, and what they allow."""

    id: int
    username: str
    email: str
    name: str
    role: str
    scopes: list[str]
