"""Which bodies are read at all, decided in ASGI, before Django.

Django would write a whole body to the disk before it looks at its size, and it looks up any codec that the caller
names. Some of Python's codecs take quadratic time, and Python remembers each name that it does not know for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.http import JsonResponse
from django.utils.http import parse_header_parameters
from django_guid import set_guid
from django_guid.utils import generate_guid

from rest.error_responses import too_large, unsupported_charset

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UTF_8 = frozenset({"utf-8", "utf8"})


class BoundedBody:
    """Wraps an application: answers 415 to a body that is not UTF-8, and 413 to one that is too large."""

    def __init__(self, application: Callable[[dict[str, Any], Receive, Send], Awaitable[None]]) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if not is_utf_8(b",".join(value for name, value in scope["headers"] if name == b"content-type")):
            await _refuse(send, unsupported_charset)
            return
        read, is_too_large = 0, False

        async def counted() -> Message:
            nonlocal read, is_too_large
            message = await receive()
            read += len(message.get("body", b""))
            is_too_large = read > settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            # The application takes this for a client that has gone, and ends without an answer of its own.
            return {"type": "http.disconnect"} if is_too_large else message

        await self._application(scope, counted, send)
        if is_too_large:
            await _refuse(send, too_large)


def is_utf_8(content_type: bytes) -> bool:
    """Return whether a `Content-Type` names UTF-8 or no character set."""
    if b"*" in content_type.partition(b";")[2]:
        # An extended parameter (RFC 8187) names a codec for itself too.
        return False
    try:
        parameters = parse_header_parameters(content_type.decode("latin-1"))[1]
    except ValueError:
        return False
    return parameters.get("charset", "utf-8").lower() in UTF_8


async def _refuse(send: Send, refusal: Callable[[], JsonResponse]) -> None:
    set_guid(generate_guid())
    answer = refusal()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})
