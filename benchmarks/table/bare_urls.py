"""One view that answers with given bytes, behind the same middleware: what a list could cost at the least."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

PATH = "/bare"
content = b""


def bare(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(content, content_type="application/json")


urlpatterns = [path(PATH.removeprefix("/"), bare)]
