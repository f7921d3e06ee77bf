"""What every REST endpoint shares: one shape of error, paging, and slashes at the end of a path."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.views.csrf import csrf_failure
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from django_guid import get_guid
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, NotFound, ParseError, ValidationError
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from svops.errors import InvalidInputError, SVOpsError, TooManyRequestsError
from svops.query import whole

View = TypeVar("View", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

LARGEST_PAGE = 200


class StrictPages:
    """Mixin of both kinds of pages: a size or a page that is no number is an error; a size too large is the largest."""

    page_size: int | None = 50
    page_size_query_param: str | None = "page_size"

    def get_page_size(self, request: Request) -> int:
        given = whole("page_size", request.query_params.get("page_size"), at_least=1)
        return min(given or self.page_size or LARGEST_PAGE, LARGEST_PAGE)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super().get_schema_operation_parameters(view)  # type: ignore[misc]  # DRF's
        for parameter in parameters:
            if parameter["schema"]["type"] == "integer":
                parameter["schema"]["minimum"] = 1
        return parameters


class Pages(StrictPages, PageNumberPagination):
    """`{count, next, previous, results}`; `?page_size=` up to 200."""

    def get_page_number(self, request: Request, paginator: Any) -> int | str:
        given = request.query_params.get("page")
        if given in self.last_page_strings:
            return super().get_page_number(request, paginator)
        return whole("page", given, at_least=1) or 1


class KeysetPages(StrictPages, CursorPagination):
    """`{next, previous, results}`, for tables that grow without bound: no count, no offset."""

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        ordering = super().get_ordering(request, queryset, view)
        # Rows that are equal in what was asked for keep one order from page to page.
        return (*ordering, "-id" if ordering[0].startswith("-") else "id")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        # DRF takes a cursor apart without looking at what is in it: the database is the first to notice.
        try:
            return super().paginate_queryset(queryset, request, view)
        except (NotFound, ValueError, DjangoValidationError) as exc:
            raise InvalidInputError({"cursor": ["Expected the cursor of a next or previous link."]}) from exc


def optional_trailing_slash(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: `/api/v1/runs/` is `/api/v1/runs`, and `/docs/` is `/docs`. The admin pages keep theirs."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path_info.endswith("/") and not request.path_info.startswith("/admin/"):
            request.path_info = request.path_info.rstrip("/") or "/"
        return get_response(request)

    return middleware


def reads_only(view: View) -> View:
    """Decorates a plain view that changes nothing: any other method is 405, and no CSRF token is asked for first."""
    return csrf_exempt(require_safe(view))


def in_one_shape(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: what is refused before a view is asked, and by Django's plain views, is refused as everywhere."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        # One that comes in chunks has no length, and DRF would take it for none.
        length = int(request.META.get("CONTENT_LENGTH") or len(request.body))
        request.META["CONTENT_LENGTH"] = str(length)
        if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return too_large()
        if "\0" in request.path_info:
            # Of all characters the one that PostgreSQL does not look for.
            return not_found(request)
        response = get_response(request)
        return _not_allowed(request, response) if isinstance(response, HttpResponseNotAllowed) else response

    return middleware


def too_large() -> JsonResponse:
    """Answer a body of more than `MAX_BODY_BYTES`."""
    detail = f"The body of the request is too large; expected at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
    return JsonResponse(error_body("too_large", detail), status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _not_allowed(request: HttpRequest, response: HttpResponseNotAllowed) -> JsonResponse:
    body = error_body("method_not_allowed", f'Method "{request.method}" not allowed.')
    return JsonResponse(body, status=response.status_code, headers={"Allow": response["Allow"]})


def error_body(code: str, detail: str, **more: Any) -> dict[str, Any]:
    """The one shape of an error."""
    return {"code": code, "detail": detail, **more, "request_id": get_guid()}


def error_headers(exc: SVOpsError) -> dict[str, str]:
    """What goes with an error beside its body: how to sign in, when to come back."""
    if isinstance(exc, TooManyRequestsError):
        return {"Retry-After": str(exc.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if exc.http_status == HTTPStatus.UNAUTHORIZED else {}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer our errors and DRF's in one shape; leave bugs to Django, which logs them and answers 500."""
    if isinstance(exc, InvalidInputError):
        return Response(error_body(exc.code, str(exc), errors=exc.errors), status=exc.http_status)
    if isinstance(exc, SVOpsError):
        body = error_body(exc.code, str(exc), **exc.extra)
        return Response(body, status=exc.http_status, headers=error_headers(exc))
    if isinstance(exc, DatabaseError):
        logger.error("database error", exc_info=exc, extra={"view": type(context.get("view")).__name__})
        unavailable = error_body("database_unavailable", "The database did not answer; try again.")
        return Response(unavailable, status=HTTPStatus.SERVICE_UNAVAILABLE)
    response = drf_exception_handler(exc, context)
    if response is not None:
        response.data = _drf_body(exc)
    return response


def _drf_body(exc: Exception) -> dict[str, Any]:
    if isinstance(exc, ValidationError):
        return error_body("invalid", "The request has invalid fields.", errors=_flat(exc.detail))
    if isinstance(exc, ParseError):
        return error_body("malformed", str(exc.detail))
    if isinstance(exc, APIException):
        codes = exc.get_codes()
        detail: Any = exc.detail.get("detail", "") if isinstance(exc.detail, dict) else exc.detail
        return error_body(codes if isinstance(codes, str) else str(exc.default_code), str(detail))
    if isinstance(exc, Http404):
        return error_body("not_found", "There is no such object, or none that you may see.")
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


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Answer a path that no pattern matches."""
    detail = f"There is nothing at {request.path}; {settings.SPECTACULAR_SETTINGS['TITLE']}'s API is at /docs."
    return JsonResponse(error_body("not_found", detail), status=HTTPStatus.NOT_FOUND)


def server_error(request: HttpRequest) -> JsonResponse:
    """Answer a bug: no trace, only the id to look it up by in the logs."""
    detail = "Something went wrong on our side. Quote the request_id when you report it."
    return JsonResponse(error_body("internal_error", detail), status=HTTPStatus.INTERNAL_SERVER_ERROR)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Answer a request that Django itself refuses: an unknown host, say."""
    detail = "The request was refused: its host or its headers are not acceptable."
    return JsonResponse(error_body("bad_request", detail), status=HTTPStatus.BAD_REQUEST)


def forged(request: HttpRequest, reason: str = "") -> HttpResponseBase:
    """Answer a form or a call that does not carry the CSRF token: with a page to a browser that wants one."""
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        return csrf_failure(request, reason)
    body = error_body("permission_denied", f"CSRF Failed: {reason.rstrip('.')}.")
    return JsonResponse(body, status=HTTPStatus.FORBIDDEN)


class StrictSerializer(serializers.Serializer[Any]):
    """Input in which an unknown field is an error: a misspelt one would else be dropped without a word."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            names = ", ".join(sorted(self.fields))
            expected = f"Unknown field; expected one of {names}." if names else "Unknown field; none is expected."
            raise ValidationError({name: [expected] for name in sorted(map(str, unknown))})
        return super().to_internal_value(data)


class NoInput(StrictSerializer):
    """The body of a call that takes none: empty."""
