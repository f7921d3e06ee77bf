"""The errors in the OpenAPI description: their shape, and the statuses that every endpoint can have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from drf_spectacular.plumbing import get_lib_doc_excludes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

from rest.query import StrictQuery
from rest.serializers import StrictSerializer

_REQUEST_ID = "5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5"
_EXAMPLES: dict[HTTPStatus, tuple[str, str, str]] = {
    HTTPStatus.BAD_REQUEST: (
        "A field is wrong, or the JSON is.",
        "invalid",
        "The request has invalid fields.",
    ),
    HTTPStatus.UNAUTHORIZED: (
        "Not signed in, or the token is not valid any more.",
        "not_authenticated",
        "Authentication credentials were not provided.",
    ),
    HTTPStatus.FORBIDDEN: (
        "Signed in, but not allowed to do this.",
        "permission_denied",
        "You do not have permission to do this.",
    ),
    HTTPStatus.NOT_FOUND: (
        "There is no such object, or the caller cannot see it.",
        "not_found",
        "There is no such object, or you cannot see it.",
    ),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "The path exists, but not for this method.",
        "method_not_allowed",
        'Method "PUT" not allowed.',
    ),
    HTTPStatus.NOT_ACCEPTABLE: (
        "The answer is JSON, or a page for a browser. `Accept` asks for something else.",
        "not_acceptable",
        "Could not satisfy the request Accept header.",
    ),
    HTTPStatus.CONFLICT: (
        "The state of the object does not allow this; nothing has changed.",
        "conflict",
        "The state of the object does not allow this.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (
        "The body is larger than `MAX_BODY_BYTES`.",
        "too_large",
        "The request body is too large; expected at most 1000000 bytes.",
    ),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (
        "The body is not of the type `application/json`.",
        "unsupported_media_type",
        'Unsupported media type "text/plain" in request. Expected application/json.',
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: (
        "This Idempotency-Key was used for another request.",
        "idempotency_key_reused",
        "This Idempotency-Key belongs to another request.",
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        "Too many requests. `Retry-After` says when to retry.",
        "throttled",
        "Request was throttled. Expected available in 12 seconds.",
    ),
    HTTPStatus.BAD_GATEWAY: (
        "Airflow gave an unexpected answer.",
        "upstream_error",
        "Airflow gave an unexpected answer.",
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Another service did not answer in time. A retry may succeed.",
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
        help_text="The messages for each wrong field.",
    )
    request_id = serializers.CharField(allow_null=True, help_text="Finds this request in the logs.")


def errors(
    *statuses: int, shape: type[ErrorSerializer] = ErrorSerializer, **more: object
) -> dict[int, OpenApiResponse]:
    """Return an operation's own errors, for `extend_schema(responses={200: …, **errors(409)})`.

    `more` are further fields of the example. `add_common_errors` adds those that every operation can have.
    """
    return {status: _error(HTTPStatus(status), shape, more) for status in statuses}


def _error(status: HTTPStatus, shape: type[ErrorSerializer], more: Mapping[str, object]) -> OpenApiResponse:
    description, code, detail = _EXAMPLES.get(status, (status.description, "error", status.phrase))
    value = {**_example(status, code, detail), **more}
    example = OpenApiExample(status.phrase, value=value, response_only=True, status_codes=[str(status.value)])
    return OpenApiResponse(shape, description=description, examples=[example])


def _example(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    value: dict[str, Any] = {"code": code, "detail": detail, "request_id": _REQUEST_ID}
    if status == HTTPStatus.BAD_REQUEST:
        value["errors"] = {"name": ["This field is required."]}
    return value


def bases_without_docs() -> list[type]:
    """Return the base classes whose docstrings are for developers: the description must not repeat them."""
    return [*get_lib_doc_excludes(), StrictQuery, StrictSerializer]  # type: ignore[no-untyped-call]


def add_common_errors(result: dict[str, Any], **of_spectacular: Any) -> dict[str, Any]:
    """Postprocessing hook: add the statuses that every operation can have."""
    for path, operations in result["paths"].items():
        for operation in operations.values():
            for status in _common(path, operation):
                reference = {"$ref": f"#/components/responses/{status.value}"}
                operation["responses"].setdefault(str(status.value), reference)
            operation["responses"] = dict(sorted(operation["responses"].items()))
    used = set(re.findall("#/components/responses/([0-9]+)", json.dumps(result["paths"], default=str)))
    shared = (status for status in _EXAMPLES if str(status.value) in used)
    result["components"]["responses"] = {str(status.value): _shared(status) for status in shared}
    return result


def _common(path: str, operation: Mapping[str, Any]) -> Iterator[HTTPStatus]:
    yield HTTPStatus.BAD_REQUEST  # an unknown query parameter
    if operation.get("security"):
        yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if "{" in path or any(parameter["name"] == "page" for parameter in operation.get("parameters", ())):
        yield HTTPStatus.NOT_FOUND
    if "requestBody" in operation:
        yield from (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    yield from (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_ACCEPTABLE)
    yield from (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def _shared(status: HTTPStatus) -> dict[str, Any]:
    description, code, detail = _EXAMPLES[status]
    schema = {"$ref": "#/components/schemas/Error"}
    return {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": _example(status, code, detail)}},
    }
