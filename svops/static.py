"""Static files under addresses that change with their content: a browser asks for each of them once.

`{% static "console/main.js" %}` is `/static/v<version>/console/main.js`. The version is one for all files, so the
relative imports of a module and the relative addresses of a stylesheet lead to files of the same version. WhiteNoise
serves the addresses without a version.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers
from whitenoise.media_types import MediaTypes

FOR_A_YEAR = "public, max-age=31536000, immutable"
VERSIONED = re.compile(r"v(?P<version>[0-9a-f]{12})/(?P<name>.+)")
TEXTS = ("text/", "application/json", "application/javascript", "image/svg+xml")


class VersionedFiles(StaticFilesStorage):
    """Gives out the addresses with the version."""

    def url(self, name: str | None, force: bool = False) -> str:
        return super().url(f"v{version()}/{name}")


@dataclass(frozen=True)
class _File:
    body: bytes
    compressed: bytes | None
    media_type: str


@cache
def version() -> str:
    """Return the version of all static files of this process."""
    known = hashlib.sha256()
    for finder in finders.get_finders():
        for name, storage in sorted(finder.list(None), key=lambda found: found[0]):
            known.update(name.encode() + b"\0" + Path(storage.path(name)).read_bytes())
    return known.hexdigest()[:12]


def versioned_files(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: answers an address with a version, compressed if the client can read that."""
    prefix = f"/{settings.STATIC_URL.strip('/')}/"

    def middleware(request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        asked = VERSIONED.fullmatch(path.removeprefix(prefix)) if path.startswith(prefix) else None
        file = _file(asked["name"]) if asked and request.method in {"GET", "HEAD"} else None
        if asked is None or file is None:
            return get_response(request)
        # Beside an older or a newer process, its file may be another one than the address says: it is not kept.
        is_current = asked["version"] == version()
        return _response(file, request, cache_control=FOR_A_YEAR if is_current else "no-store")

    return middleware


def _response(file: _File, request: HttpRequest, *, cache_control: str) -> HttpResponse:
    is_compressed = file.compressed is not None and "gzip" in request.headers.get("Accept-Encoding", "")
    response = HttpResponse(file.compressed if is_compressed else file.body, content_type=file.media_type)
    response["Cache-Control"] = cache_control
    if is_compressed:
        response["Content-Encoding"] = "gzip"
    if file.compressed is not None:
        patch_vary_headers(response, ["Accept-Encoding"])
    return response


def _file(name: str) -> _File | None:
    """Return the file; None if there is none of this name."""
    known = _names()
    return _read(known[name]) if name in known else None


@cache
def _names() -> dict[str, str]:
    """Return where each static file is. Only these are served."""
    names: dict[str, str] = {}
    for finder in finders.get_finders():
        for name, storage in finder.list(None):
            names.setdefault(name, storage.path(name))
    return names


@cache
def _read(path: str) -> _File:
    body = Path(path).read_bytes()
    media_type = MediaTypes().get_type(path)
    is_text = media_type.startswith(TEXTS)
    compressed = gzip.compress(body, mtime=0) if is_text else None
    if compressed is not None and len(compressed) >= len(body):
        compressed = None
    return _File(body, compressed, f"{media_type}; charset=utf-8" if is_text else media_type)
