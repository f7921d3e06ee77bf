"""Errors with their code, their HTTP status and whether a retry helps; each edge translates them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from rest.masking import mask


class SVOpsError(Exception):
    """Base of our errors. `str()` is a sentence for the caller, without secrets; `extra` is more of the response."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(mask(detail))
        self.extra = dict(extra or {})


class InvalidInputError(SVOpsError):
    """A field of the request is wrong; `errors` has the messages for each field."""

    code = "invalid"
    http_status = HTTPStatus.BAD_REQUEST

    def __init__(self, errors: Mapping[str, Sequence[str]], *, detail: str = "The request has invalid fields.") -> None:
        super().__init__(detail)
        self.errors = {field: list(messages) for field, messages in errors.items()}


class NotAllowedError(SVOpsError):
    """The caller is signed in but not allowed to do this."""

    code = "permission_denied"
    http_status = HTTPStatus.FORBIDDEN


class FieldNotAllowedError(NotAllowedError, InvalidInputError):
    """The caller is not allowed to give a field this value; `errors` names the field."""

    def __init__(self, field: str, message: str) -> None:
        InvalidInputError.__init__(self, {field: [message]}, detail=message)


class NotFoundError(SVOpsError):
    """There is no such object, or the caller cannot see it."""

    code = "not_found"
    http_status = HTTPStatus.NOT_FOUND


class ConflictError(SVOpsError):
    """The state of the object does not allow this; nothing has changed."""

    code = "conflict"
    http_status = HTTPStatus.CONFLICT


class TooManyRequestsError(SVOpsError):
    """Too many requests; the caller may retry after `retry_after` seconds."""

    code = "throttled"
    http_status = HTTPStatus.TOO_MANY_REQUESTS
    retryable = True

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class UnavailableError(SVOpsError):
    """Another service did not answer in time; a retry may succeed."""

    code = "upstream_unavailable"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class BusyError(SVOpsError):
    """SVOps has no room for this now, because of others or of the caller's own requests; a retry may succeed."""

    code = "busy"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True
    retry_after = 2


class TooManyOfYoursError(BusyError):
    """The caller has as many of these open as one user may have."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
