"""The refusals of the services. A refusal changes nothing."""

from __future__ import annotations

from rest.errors import ConflictError, SVOpsError
from workflows.models import Run


class WrongStateError(ConflictError):
    """The action does not fit the state that the run is in."""

    code = "wrong_state"

    def __init__(self, run: Run, action: str) -> None:
        super().__init__(
            f"A run that is {run.state} cannot be {action}.",
            extra={"state": run.state, "paused": run.is_paused, "run_id": str(run.pk)},
        )


class WorkflowInactiveError(ConflictError):
    """The workflow or its DAG cannot be triggered now."""

    code = "workflow_inactive"


class ActiveRunsError(ConflictError):
    """The workflow has runs that have not ended."""

    code = "active_runs"


class AirflowInUseError(ConflictError):
    """There are workflows or runs on the Airflow."""

    code = "airflow_in_use"


class WouldFreezeError(ConflictError):
    """Pausing the DAG would freeze other runs too."""

    code = "would_freeze_others"


class KeyReusedError(SVOpsError):
    """The Idempotency-Key was used for another request."""

    code = "idempotency_key_reused"
    http_status = 422
