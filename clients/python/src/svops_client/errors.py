"""What can go wrong, as exceptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class SVOpsError(Exception):
    """Base of all exceptions of this package."""


class ApiError(SVOpsError):
    """The platform refused a request.

    `code` is for programs and `detail` for people. `errors` has the messages for each field. `request_id` finds the
    request in the logs of the platform. `retry_after` is in seconds. `body` is the whole answer.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        errors: Mapping[str, Sequence[str]] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> None:
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = {field: list(messages) for field, messages in (errors or {}).items()}
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = dict(body or {})
        super().__init__(detail)

    def __str__(self) -> str:
        fields = "".join(f"\n  {field}: {' '.join(messages)}" for field, messages in self.errors.items())
        return f"{self.detail} ({self.status} {self.code}){fields}"


class InvalidRequestError(ApiError):
    """A field or a parameter is wrong; `errors` names it."""


class AuthenticationError(ApiError):
    """Not signed in, or no longer."""


class PermissionDeniedError(ApiError):
    """Signed in, but not allowed to do this."""


class NotFoundError(ApiError):
    """There is no such object, or you cannot see it."""


class ConflictError(ApiError):
    """The state of the object does not allow this; nothing has changed. `state` is that of the run, if it is one."""

    @property
    def state(self) -> str | None:
        return self.body.get("state")


class ThrottledError(ApiError):
    """Too many requests; `retry_after` says when to ask again."""


class UnavailableError(ApiError):
    """The platform, or what is behind it, does not answer now; the same request may work later."""


class CursorGoneError(ApiError):
    """Events after this cursor are not kept any more, so that following from there would leave a gap."""


class AmbiguousNameError(SVOpsError):
    """Several workflows have this name. Use the id of one of them."""


class TransportError(SVOpsError):
    """There was no answer. `was_sent` is false if the request certainly did not reach the platform."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class ConnectionLostError(TransportError):
    """A stream could not be resumed for longer than the client has patience for."""


class WaitTimeoutError(SVOpsError, TimeoutError):
    """The run has not ended in the given time. It goes on."""


class RunEndedBadlyError(SVOpsError):
    """The run failed or was stopped; see `Run.require_success`."""

    def __init__(self, message: str, *, state: str, reason: str) -> None:
        super().__init__(message)
        self.state = state
        self.reason = reason


class WebhookError(SVOpsError):
    """The signature of a webhook is wrong, or the message is too old."""


# The class for each status. `error_of` in `_core.http` makes them.
BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: CursorGoneError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: ThrottledError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
