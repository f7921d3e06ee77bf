"""Refusals as pages: the status and the headers that the API gives them."""

from __future__ import annotations

from django.http import HttpResponse

from rest.error_responses import headers_of
from rest.errors import SVOpsError


def as_refusal(response: HttpResponse, exc: SVOpsError) -> HttpResponse:
    """Give `response` the status and the headers of `exc`, such as `Retry-After`."""
    response.status_code = exc.http_status
    for name, value in headers_of(exc).items():
        response[name] = value
    return response
