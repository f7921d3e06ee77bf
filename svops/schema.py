"""What the OpenAPI description of every endpoint shares: the shape of an error and its statuses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

_REQUEST_ID = "5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5"
_EXAMPLES: dict[HTTPStatus, tuple[str, str, str]] = {
    HTTPStatus.BAD_REQUEST: (
        "A field is wrong, or the JSON is.",
        "invalid",
        "The request has invalid fields.",
    ),
    HTTPStatus.UNAUTHORIZED: (
        "Not signed in, or the token is no longer good.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    HTTPStatus.FORBIDDEN: (
        "Signed in, but not allowed to do this.",
        "permission_denied",
        "You do not have permission to do this.",
    ),
    HTTPStatus.NOT_FOUND: (
        "There is no such object, or none that the caller may see.",
        "not_found",
        "There is no such object, or none that you may see.",
    ),
    HTTPStatus.CONFLICT: (
        "The object is in a state in which this can not be done; nothing was changed.",
        "conflict",
        "The object is in a state in which this can not be done.",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "The Idempotency-Key was used before with another body.",
        "idempotency_key_reused",
        "This Idempotency-Key belongs to another request.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "Too many requests; `Retry-After` says when to come back.",
        "throttled",
        "Request was throttled. Expected available in 12 seconds.",
    ),
    HTTPStatus.BAD_GATEWAY: (
        "Airflow answered with something unexpected.",
        "upstream_error",
        "Airflow gave an unexpected answer.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Another service did not answer in time; the same request may work later.",
        "upstream_unavailable",
        "Airflow did not answer in time.",
    ),
}


class ErrorSerializer(serializers.Serializer[Any]):
    """The one shape of an error."""

    code = serializers.CharField(help_text="Stable, for programs.")
    detail = serializers.CharField(help_text="A sentence, for people.")
    errors = serializers.DictField(  # type: ignore[assignment]  # the field is named as in the answer
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="For each field that is wrong, what was expected.",
    )
    request_id = serializers.CharField(allow_null=True, help_text="Finds this request in the logs.")


def errors(*statuses: int) -> dict[int, OpenApiResponse]:
    """The error answers of an operation, for `extend_schema(responses={200: …, **errors(400, 404)})`."""
    return {status: _error(HTTPStatus(status)) for status in statuses}


def _error(status: HTTPStatus) -> OpenApiResponse:
    description, code, detail = _EXAMPLES.get(status, (status.description, "error", status.phrase))
    value: dict[str, Any] = {"code": code, "detail": detail, "request_id": _REQUEST_ID}
    if status == HTTPStatus.BAD_REQUEST:
        value["errors"] = {"name": ["This field is required."]}
    example = OpenApiExample(status.phrase, value=value, response_only=True, status_codes=[str(status.value)])
    return OpenApiResponse(ErrorSerializer, description=description, examples=[example])
