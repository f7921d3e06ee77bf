"""CORS: pages of the origins in `CORS_ALLOWED_ORIGINS` may call the API and read its answers.

The policy is that of django-cors-headers. It is applied in ASGI, around everything else: so the answers that are made
before Django have it too, such as 413 and an early 429, and a preflight costs no thread. Cookies are never allowed:
such a page shows a token or a ticket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

if TYPE_CHECKING:
    from corsheaders.middleware import CorsMiddleware

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

API = "/api/"
READ = (b"origin", b"access-control-request-method")


class CrossOrigin:
    """Wraps an application: answers preflights, and says in each answer of the API which origin may read it."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if not settings.CORS_ALLOWED_ORIGINS or not scope["path"].startswith(API):
            await self._application(scope, receive, send)
            return
        request = _request(scope)
        if preflight := _policy().check_preflight(request):
            headers = [*_headers_for(request), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": preflight.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _merged(message["headers"], _headers_for(request))}
            await send(message)

        await self._application(scope, receive, with_headers)


@cache
def _policy() -> CorsMiddleware:
    from corsheaders.middleware import CorsMiddleware

    return CorsMiddleware(_unused)


def _unused(request: HttpRequest) -> HttpResponseBase:
    raise NotImplementedError("the policy is asked for headers only")


def _request(scope: Mapping[str, Any]) -> HttpRequest:
    """Return what the policy looks at."""
    request = HttpRequest()
    request.method, request.path_info = scope["method"], scope["path"]
    for name, value in scope["headers"]:
        if name in READ:
            request.META[f"HTTP_{name.decode().upper().replace('-', '_')}"] = value.decode("latin-1")
    return request


def _headers_for(request: HttpRequest) -> Headers:
    answer = _policy().add_response_headers(request, HttpResponse())
    given = ((name.lower(), value) for name, value in answer.items())
    return [(name.encode(), value.encode()) for name, value in given if name != "content-type"]


def _merged(headers: Iterable[tuple[bytes, bytes]], more: Headers) -> Headers:
    """Return the headers with the others: those of the policy replace, and `Vary` is the union."""
    added = dict(more)
    kept = [(name, value) for name, value in headers if name.lower() not in added]
    varies = [value for name, value in headers if name.lower() == b"vary"]
    if varies and b"vary" in added:
        added[b"vary"] = b", ".join([*varies, added[b"vary"]])
    return [*kept, *added.items()]
