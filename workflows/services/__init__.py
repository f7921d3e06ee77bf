"""The write path: each function is one change by a user, in one transaction, with its event. Every edge calls it.

Nothing here follows Airflow (`workflows.watch` does) or calls it inside a transaction. Start with
`triggers.trigger_once`.
"""

from workflows.services.airflows import (
    change_airflow,
    create_airflow,
    delete_airflow,
    drain_airflow,
    reseal_airflows,
)
from workflows.services.dag_rules import Opened, close_dags, open_dags
from workflows.services.errors import (
    ActiveRunsError,
    AirflowInUseError,
    KeyReusedError,
    WorkflowInactiveError,
    WouldFreezeError,
    WrongStateError,
)
from workflows.services.grants import Granted, grant, revoke
from workflows.services.pausing import pause_run, resume_run, set_dag_paused
from workflows.services.runs import RETRY_MODES, preview_retry, retry_run, stop_run
from workflows.services.triggers import (
    RunRequest,
    Triggered,
    trigger_all,
    trigger_once,
    trigger_run,
    validate_request,
)
from workflows.services.workflows import create_workflow, delete_workflow, update_workflow

__all__ = [
    "RETRY_MODES",
    "ActiveRunsError",
    "AirflowInUseError",
    "Granted",
    "KeyReusedError",
    "Opened",
    "RunRequest",
    "Triggered",
    "WorkflowInactiveError",
    "WouldFreezeError",
    "WrongStateError",
    "change_airflow",
    "close_dags",
    "create_airflow",
    "create_workflow",
    "delete_airflow",
    "delete_workflow",
    "drain_airflow",
    "grant",
    "open_dags",
    "pause_run",
    "preview_retry",
    "reseal_airflows",
    "resume_run",
    "retry_run",
    "revoke",
    "set_dag_paused",
    "stop_run",
    "trigger_all",
    "trigger_once",
    "trigger_run",
    "update_workflow",
    "validate_request",
]
