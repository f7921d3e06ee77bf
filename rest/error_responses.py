"""The one shape of an error response, made from our errors, DRF's and Django's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponseBase, JsonResponse
from django.views.csrf import csrf_failure
from django_guid import get_guid
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    NotAuthenticated,
    ParseError,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from rest.authorization import wrong_scheme
from rest.errors import BusyError, InvalidInputError, SVOpsError, TooManyRequestsError
from rest.masking import mask, mask_all

logger = logging.getLogger(__name__)

# Fields of some errors beside the common ones: the state of a run, the other runs of a DAG, and so on.
Extra = Mapping[str, object]


def error_body(
    code: str, detail: str, *, errors: Mapping[str, Sequence[str]] | None = None, extra: Extra | None = None
) -> dict[str, object]:
    """Return the body of an error. Secrets that its texts quote are masked."""
    fields = {} if errors is None else {"errors": mask_all(errors)}
    return {"code": code, "detail": mask(detail), **fields, **(extra or {}), "request_id": get_guid()}


def body_of(exc: SVOpsError) -> dict[str, object]:
    """Return the body for one of our errors."""
    errors = exc.errors if isinstance(exc, InvalidInputError) else None
    return error_body(exc.code, str(exc), errors=errors, extra=exc.extra)


def headers_of(exc: SVOpsError) -> dict[str, str]:
    """Return the headers of an error: how to sign in, when to ask again."""
    if isinstance(exc, TooManyRequestsError | BusyError):
        return {"Retry-After": str(exc.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if exc.http_status == HTTPStatus.UNAUTHORIZED else {}


def response_to(exc: SVOpsError) -> JsonResponse:
    """Answer one of our errors from a plain Django view."""
    return JsonResponse(body_of(exc), status=exc.http_status, headers=headers_of(exc))


def exception_handler(exc: Exception, context: Mapping[str, object]) -> Response | None:
    """Answer our errors and DRF's in one shape; leave bugs to Django, which logs them and answers 500."""
    if isinstance(exc, SVOpsError):
        return Response(body_of(exc), status=exc.http_status, headers=headers_of(exc))
    if isinstance(exc, DatabaseError):
        logger.error("database error", exc_info=exc, extra={"view": type(context.get("view")).__name__})
        unavailable = error_body("database_unavailable", "The database did not answer; try again.")
        return Response(unavailable, status=HTTPStatus.SERVICE_UNAVAILABLE)
    response = drf_exception_handler(exc, dict(context))
    if response is not None:
        response.data = _drf_body(exc, _authorization(context))
    return response


def _authorization(context: Mapping[str, object]) -> str:
    request = context.get("request")
    return request.headers.get("Authorization", "") if isinstance(request, Request) else ""


def _drf_body(exc: Exception, authorization: str) -> dict[str, object]:
    if isinstance(exc, NotAuthenticated) and (why := wrong_scheme(authorization)):
        return error_body("not_authenticated", why)
    if isinstance(exc, UnsupportedMediaType):
        return error_body("unsupported_media_type", f"{exc.detail} Expected application/json.")
    if isinstance(exc, ValidationError):
        return error_body("invalid", "The request has invalid fields.", errors=_flat(exc.detail))
    if isinstance(exc, ParseError):
        return error_body("malformed", str(exc.detail))
    if isinstance(exc, APIException):
        codes = exc.get_codes()
        detail = exc.detail.get("detail", "") if isinstance(exc.detail, dict) else exc.detail
        return error_body(codes if isinstance(codes, str) else str(exc.default_code), str(detail))
    if isinstance(exc, Http404):
        return error_body("not_found", "There is no such object, or you cannot see it.")
    return error_body("permission_denied", "You do not have permission to do this.")


def _flat(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """DRF's nested validation errors as `{"field.sub": [messages]}`."""
    if isinstance(detail, dict):
        flat: dict[str, list[str]] = {}
        for field, inner in detail.items():
            flat.update(_flat(inner, f"{prefix}.{field}" if prefix else str(field)))
        return flat
    if isinstance(detail, list) and any(isinstance(item, dict) for item in detail):
        flat = {}
        for index, inner in enumerate(detail):
            flat.update(_flat(inner, f"{prefix}.{index}" if prefix else str(index)) if inner else {})
        return flat
    messages = detail if isinstance(detail, list) else [detail]
    return {prefix or "non_field_errors": [str(m) for m in messages if isinstance(m, str | ErrorDetail)]}


def too_large() -> JsonResponse:
    """Answer a body of more than `MAX_BODY_BYTES`."""
    detail = f"The request body is too large; expected at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
    return JsonResponse(error_body("too_large", detail), status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def unsupported_charset() -> JsonResponse:
    """Answer a body in another encoding than UTF-8."""
    detail = "The body must be UTF-8: leave out the charset of Content-Type, or set it to utf-8."
    return JsonResponse(error_body("unsupported_media_type", detail), status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Answer a path that no pattern matches."""
    detail = f"There is nothing at {request.path}; {settings.SPECTACULAR_SETTINGS['TITLE']}'s API is at /docs."
    return JsonResponse(error_body("not_found", detail), status=HTTPStatus.NOT_FOUND)


def server_error(request: HttpRequest) -> JsonResponse:
    """Answer a bug: no trace, only the id that finds it in the logs."""
    detail = "Something went wrong on our side. Quote the request_id when you report it."
    return JsonResponse(error_body("internal_error", detail), status=HTTPStatus.INTERNAL_SERVER_ERROR)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Answer a request that Django itself refuses, for example one for an unknown host."""
    detail = "The request was refused: its host or its headers are not acceptable."
    return JsonResponse(error_body("bad_request", detail), status=HTTPStatus.BAD_REQUEST)


def forged(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a request without its CSRF token; a browser that asks for a page gets one."""
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return csrf_failure(request, reason)
    body = error_body("permission_denied", f"CSRF Failed: {reason.rstrip('.')}.")
    return JsonResponse(body, status=HTTPStatus.FORBIDDEN)
