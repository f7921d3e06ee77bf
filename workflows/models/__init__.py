"""The tables of workflows: Airflows, DAGs, workflows and grants; runs and their tasks; events; commands to Airflow.

Start with `workflows`, then `runs`. `workflows.dagrules` has the table of DAG rules.
"""

from workflows.models.airflows import Airflow, AirflowQuerySet
from workflows.models.commands import AirflowCommand, AirflowCommandQuerySet, CommandKind
from workflows.models.events import ABOUT_DAGS, AUTHORS_ERROR, Event, EventQuerySet, LogHead
from workflows.models.runs import (
    DataInterval,
    IdempotencyKey,
    ReferenceText,
    ResultState,
    Run,
    RunAttempt,
    RunChanges,
    RunQuerySet,
    RunResult,
    TaskInstance,
    TriggerType,
    has_work,
    with_state,
)
from workflows.models.workflows import (
    Dag,
    DagFileError,
    Grant,
    Level,
    Visibility,
    Workflow,
    WorkflowQuerySet,
    is_unrestricted,
)

__all__ = [
    "ABOUT_DAGS",
    "AUTHORS_ERROR",
    "Airflow",
    "AirflowCommand",
    "AirflowCommandQuerySet",
    "AirflowQuerySet",
    "CommandKind",
    "Dag",
    "DagFileError",
    "DataInterval",
    "Event",
    "EventQuerySet",
    "Grant",
    "IdempotencyKey",
    "Level",
    "LogHead",
    "ReferenceText",
    "ResultState",
    "Run",
    "RunAttempt",
    "RunChanges",
    "RunQuerySet",
    "RunResult",
    "TaskInstance",
    "TriggerType",
    "Visibility",
    "Workflow",
    "WorkflowQuerySet",
    "has_work",
    "is_unrestricted",
    "with_state",
]
