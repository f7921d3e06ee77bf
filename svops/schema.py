"""`/api/v1/schema`, and what is made from it: the events as JSON Schema, the WebSocket streams as AsyncAPI.

Making the OpenAPI description takes a third of a second, so each process makes each of them once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from rest.error_responses import response_to
from rest.errors import InvalidInputError
from rest.query import FORMAT, check_query
from rest.views import reads_only
from workflows.api.asyncapi import asyncapi
from workflows.api.event_schema import json_schema


@dataclass(frozen=True)
class Description:
    """The description in one form, with what HTTP needs to know about it."""

    body: bytes
    compressed: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Description:
        return cls(body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:32])

    def answer(self, request: HttpRequest, *, content_type: str, filename: str) -> HttpResponseBase:
        """Return the response, or 304 to who has it already."""
        is_compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        response = HttpResponse(
            self.compressed if is_compressed else self.body,
            content_type=content_type,
            headers={
                "Cache-Control": "no-cache",  # kept, and asked for again with its ETag
                "Content-Disposition": f'inline; filename="{filename}"',
                "ETag": f'"{self.etag}{"-gzip" if is_compressed else ""}"',
            },
        )
        if is_compressed:
            response["Content-Encoding"] = "gzip"
        patch_vary_headers(response, ["Accept", "Accept-Encoding"])
        return get_conditional_response(request, etag=response["ETag"], response=response) or response


_LOCK = threading.RLock()
_MADE: dict[object, Description] = {}


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI description. It is made once: nobody may change it."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


def described(renderer: type[BaseRenderer]) -> Description:
    """Return the description in this form. The first call makes it; calls meanwhile wait."""

    def make() -> bytes:
        rendered = renderer().render(openapi(), renderer_context={})
        return rendered.encode() if isinstance(rendered, str) else rendered

    return _once(renderer, make)


def _once(key: object, make: Callable[[], bytes]) -> Description:
    with _LOCK:
        if key not in _MADE:
            _MADE[key] = Description.of(make())
        return _MADE[key]


class SchemaView(SpectacularAPIView):
    """The description as YAML or JSON, whichever `Accept` or `?format=` asks for."""

    @extend_schema(exclude=True)  # the description does not describe itself
    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        renderer = request.accepted_renderer
        return described(type(renderer)).answer(
            request._request,
            content_type=f"{renderer.media_type}; charset=utf-8",
            filename=f"SVOps.{renderer.format}",
        )


@reads_only
def event_schema(request: HttpRequest) -> HttpResponseBase:
    """`/api/v1/events/schema`: an event as JSON Schema."""
    return _answer(request, "events", lambda: json_schema(openapi(), request.path), kind="application/schema+json")


@reads_only
def streams_schema(request: HttpRequest) -> HttpResponseBase:
    """`/api/v1/asyncapi`: the WebSocket streams as AsyncAPI."""
    return _answer(request, "asyncapi", lambda: asyncapi(openapi()), kind="application/json")


def _answer(request: HttpRequest, name: str, make: Callable[[], dict[str, Any]], *, kind: str) -> HttpResponseBase:
    try:
        check_query(request.GET, {FORMAT})
    except InvalidInputError as exc:
        return response_to(exc)
    made = _once(name, lambda: json.dumps(make(), indent=1).encode())
    return made.answer(request, content_type=kind, filename=f"SVOps.{name}.json")
