"""The write path: each function is one change, in one transaction, with its event. Every edge comes through here."""

from workflows.services.errors import (
    ActiveRunsError,
    KeyReusedError,
    WorkflowInactiveError,
    WouldFreezeError,
    WrongStateError,
)
from workflows.services.grants import Granted, grant, revoke
from workflows.services.pausing import pause_run, resume_run, set_dag_paused
from workflows.services.runs import (
    RETRY_MODES,
    Triggered,
    preview_retry,
    retry_run,
    stop_run,
    trigger_once,
    trigger_run,
    validate_parameters,
)
from workflows.services.workflows import create_workflow, delete_workflow, update_workflow

__all__ = [
    "RETRY_MODES",
    "ActiveRunsError",
    "Granted",
    "KeyReusedError",
    "Triggered",
    "WorkflowInactiveError",
    "WouldFreezeError",
    "WrongStateError",
    "create_workflow",
    "delete_workflow",
    "grant",
    "pause_run",
    "preview_retry",
    "resume_run",
    "retry_run",
    "revoke",
    "set_dag_paused",
    "stop_run",
    "trigger_once",
    "trigger_run",
    "update_workflow",
    "validate_parameters",
]
