"""Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html defines them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterable, AsyncIterator
from typing import cast

from django.http import StreamingHttpResponse

from rest import stopping

SERVICE_RESTART = 1012  # the close code that WebSockets get at the same moment
# Milliseconds after which a reader comes back. They differ, so that not all readers come at once.
SOONEST, LATEST = 500, 5000


def stream(texts: AsyncIterable[str]) -> StreamingHttpResponse:
    """Return the response that sends these texts as they come. Django closes `texts` at its end, if it can."""
    # A proxy that buffers would hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(_UntilStop(texts), content_type="text/event-stream", headers=headers)


def message(event: str, data: str, *, cursor: object = None) -> str:
    """Encode an event. `data` is one line; a reader that comes back sends `cursor` as `Last-Event-ID`."""
    id_line = "" if cursor is None else f"id: {cursor}\n"
    return f"{id_line}event: {event}\ndata: {data}\n\n"


def comment(text: str) -> str:
    """Encode a line that readers skip. It keeps a silent connection open."""
    return f": {text}\n\n"


class _UntilStop:
    """The texts of a stream, until it ends or the process stops."""

    def __init__(self, texts: AsyncIterable[str]) -> None:
        self._texts = texts

    def close(self) -> None:
        if close := getattr(self._texts, "close", None):
            close()

    async def __aiter__(self) -> AsyncIterator[str]:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        end = task.cancel
        stopping.at_stop.add(end)
        try:
            async for text in self._texts:
                yield text
        except asyncio.CancelledError:
            if not stopping.has_begun():
                raise
            task.uncancel()
            yield _farewell()
        finally:
            stopping.at_stop.discard(end)


def _farewell() -> str:
    """Without a cursor: the reader keeps the one of the last event."""
    data = json.dumps({"code": "restarting", "close_code": SERVICE_RESTART})
    return f"retry: {random.randint(SOONEST, LATEST)}\n{message('error', data)}"  # noqa: S311 - no secret
