"""Views behind the same middleware that do the least: one answers with stored bytes, one reads the rows of a list."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from accounts.authentication import authenticate_token, token_in
from workflows.api.run_rows import COLUMNS
from workflows.models import Run

PATH, READING_PATH = "/bare", "/reading"
PAGE = 50
content = b""


def bare(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(content, content_type="application/json")


def reading(request: HttpRequest) -> HttpResponse:
    """Answer a page of the runs that the caller may see, as their columns are."""
    caller = authenticate_token(token_in(request.headers["Authorization"]) or "")
    runs = Run.objects.within(caller.user).order_by("-created_at", "-id")
    return JsonResponse({"results": list(runs.values(*COLUMNS)[:PAGE])})


urlpatterns = [path(PATH.removeprefix("/"), bare), path(READING_PATH.removeprefix("/"), reading)]
