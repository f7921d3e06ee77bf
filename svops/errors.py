"""Errors that know their code, their HTTP status and whether waiting helps; each edge translates them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar


class SVOpsError(Exception):
    """Base of everything SVOps refuses or fails at on purpose; `str()` is fit to be shown to the caller."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.extra = dict(extra or {})


class InvalidInputError(SVOpsError):
    """The request is understood but a field is wrong; `errors` names each field and what was expected."""

    code = "invalid"
    http_status = HTTPStatus.BAD_REQUEST

    def __init__(self, errors: Mapping[str, Sequence[str]], *, detail: str = "The request has invalid fields.") -> None:
        super().__init__(detail)
        self.errors = {field: list(messages) for field, messages in errors.items()}


class NotAllowedError(SVOpsError):
    """The caller is known and may not do this."""

    code = "permission_denied"
    http_status = HTTPStatus.FORBIDDEN


class NotFoundError(SVOpsError):
    """There is no such object, or none that the caller may see."""

    code = "not_found"
    http_status = HTTPStatus.NOT_FOUND


class ConflictError(SVOpsError):
    """The object is in a state in which this can not be done; nothing was changed."""

    code = "conflict"
    http_status = HTTPStatus.CONFLICT


class TooManyRequestsError(SVOpsError):
    """Asked too often; worth asking again after `retry_after` seconds."""

    code = "throttled"
    http_status = HTTPStatus.TOO_MANY_REQUESTS
    retryable = True

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class UnavailableError(SVOpsError):
    """Another service did not answer in time; the same call may work later."""

    code = "upstream_unavailable"
    http_status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True
