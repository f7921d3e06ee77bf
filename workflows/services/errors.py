"""Why a service refuses; nothing was changed."""

from __future__ import annotations

from svops.errors import ConflictError, SVOpsError
from workflows.models import Run


class WrongStateError(ConflictError):
    """The action does not fit the state that the run is in."""

    code = "wrong_state"

    def __init__(self, run: Run, action: str) -> None:
        super().__init__(
            f"A run that is {run.state} can not be {action}.",
            extra={"state": run.state, "paused": run.paused, "run_id": str(run.pk)},
        )


class WorkflowInactiveError(ConflictError):
    """The workflow or its DAG can not be triggered now."""

    code = "workflow_inactive"


class ActiveRunsError(ConflictError):
    """The workflow has runs that have not ended."""

    code = "active_runs"


class WouldFreezeError(ConflictError):
    """Pausing the DAG would freeze other runs too."""

    code = "would_freeze_others"


class KeyReusedError(SVOpsError):
    """The Idempotency-Key was used before for another request."""

    code = "idempotency_key_reused"
    http_status = 422
