"""Middleware of every request: the slash at the end of a path, and refusals before a view is called."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, HttpResponseNotAllowed, JsonResponse

from rest.error_responses import error_body, not_found, too_large

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def optional_trailing_slash(get_response: GetResponse) -> GetResponse:
    """`/api/v1/runs/` is `/api/v1/runs`, and `/docs/` is `/docs`. The admin pages keep theirs."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        if request.path_info.endswith("/") and not request.path_info.startswith("/admin/"):
            request.path_info = request.path_info.rstrip("/") or "/"
        return get_response(request)

    return middleware


def one_error_shape(get_response: GetResponse) -> GetResponse:
    """Answers in the one shape of an error where no DRF view does: before a view, and after Django's own."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        # A body in chunks has no length, and DRF would read it as empty.
        length = int(request.META.get("CONTENT_LENGTH") or len(request.body))
        request.META["CONTENT_LENGTH"] = str(length)
        if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return too_large()
        if "\0" in request.path_info:
            # PostgreSQL fails on a search for this character.
            return not_found(request)
        response = get_response(request)
        return _not_allowed(request, response) if isinstance(response, HttpResponseNotAllowed) else response

    return middleware


def _not_allowed(request: HttpRequest, response: HttpResponseNotAllowed) -> JsonResponse:
    body = error_body("method_not_allowed", f'Method "{request.method}" not allowed.')
    return JsonResponse(body, status=response.status_code, headers={"Allow": response["Allow"]})


def never_stored(get_response: GetResponse) -> GetResponse:
    """Answers of the API, and every JSON answer, are kept by no browser and no proxy."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        is_json = response.get("Content-Type", "").partition(";")[0].endswith("json")
        if is_json or request.path_info.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    return middleware
