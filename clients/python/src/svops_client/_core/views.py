"""What the handles of both clients show without asking the platform."""

from __future__ import annotations

from svops_client._core.operations import RunRef
from svops_client.errors import RunEndedBadlyError
from svops_client.models import TERMINAL, RunInfo, RunState


class RunView:
    """A run as it was when it was last asked for: `info` has all that is known of it."""

    def __init__(self, info: RunInfo) -> None:
        self.info = info

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def workflow_id(self) -> int:
        return self.info.workflow_id

    @property
    def state(self) -> RunState:
        return self.info.state

    @property
    def has_ended(self) -> bool:
        return self.info.state in TERMINAL

    def require_success(self) -> None:
        """Raise `RunEndedBadlyError` if the run has failed or was stopped."""
        if self.has_ended and self.state != "success":
            reason = self.info.state_reason or "no reason is known"
            message = f"The run {self.id} of {self.info.workflow_name!r} is {self.state}: {reason}"
            raise RunEndedBadlyError(message, state=self.state, reason=reason)

    @property
    def _ref(self) -> RunRef:
        return RunRef(self.info.id, self.info.workflow_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.info.workflow_name!r}: {self.state}>"
