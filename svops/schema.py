"""`/api/v1/schema`: the OpenAPI description. Making it takes a third of a second, so each process makes it once."""

from __future__ import annotations

import gzip
import hashlib
import threading
from dataclasses import dataclass

from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


@dataclass(frozen=True)
class Description:
    """The description in one form, with what HTTP needs to know about it."""

    body: bytes
    compressed: bytes
    etag: str


_LOCK = threading.Lock()
_MADE: dict[type[BaseRenderer], Description] = {}


def described(renderer: type[BaseRenderer]) -> Description:
    """Return the description. The first call makes it; calls meanwhile wait."""
    with _LOCK:
        if renderer not in _MADE:
            schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
            rendered = renderer().render(schema, renderer_context={})
            body = rendered.encode() if isinstance(rendered, str) else rendered
            etag = hashlib.sha256(body).hexdigest()[:32]
            _MADE[renderer] = Description(body, gzip.compress(body, mtime=0), etag)
        return _MADE[renderer]


class SchemaView(SpectacularAPIView):
    """The description as YAML or JSON, whichever `Accept` or `?format=` asks for."""

    @extend_schema(exclude=True)  # the description does not describe itself
    def get(self, request: Request, *args: object, **kwargs: object) -> HttpResponseBase:
        renderer = request.accepted_renderer
        made = described(type(renderer))
        is_compressed = "gzip" in request.headers.get("Accept-Encoding", "")
        response = HttpResponse(
            made.compressed if is_compressed else made.body,
            content_type=f"{renderer.media_type}; charset=utf-8",
            headers={
                "Cache-Control": "no-cache",  # kept, and asked for again with its ETag
                "Content-Disposition": f'inline; filename="SVOps.{renderer.format}"',
                "ETag": f'"{made.etag}{"-gzip" if is_compressed else ""}"',
            },
        )
        if is_compressed:
            response["Content-Encoding"] = "gzip"
        patch_vary_headers(response, ["Accept", "Accept-Encoding"])
        return get_conditional_response(request._request, etag=response["ETag"], response=response) or response
