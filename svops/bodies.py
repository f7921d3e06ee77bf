"""The largest body that is read, on the level of ASGI: Django writes a body to the disk whole before it looks at it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django_guid import set_guid
from django_guid.utils import generate_guid

from svops import api

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class BoundedBody:
    """Wraps an application: of a body that is too large no more is read, and the answer is 413."""

    def __init__(self, application: ASGIHandler) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        read, is_too_large = 0, False

        async def counted() -> Message:
            nonlocal read, is_too_large
            message = await receive()
            read += len(message.get("body", b""))
            is_too_large = read > settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            # The application takes it for a client that has gone, and ends without an answer of its own.
            return {"type": "http.disconnect"} if is_too_large else message

        await self._application(scope, counted, send)
        if is_too_large:
            await _refuse(send)


async def _refuse(send: Send) -> None:
    set_guid(generate_guid())
    answer = api.too_large()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})
