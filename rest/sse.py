"""Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html defines them."""

from __future__ import annotations

from collections.abc import AsyncIterable

from django.http import StreamingHttpResponse


def stream(texts: AsyncIterable[str]) -> StreamingHttpResponse:
    """Return the response that sends these texts as they come. Django closes `texts` at its end, if it can."""
    # A proxy that buffers would hold events back.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(texts, content_type="text/event-stream", headers=headers)


def message(event: str, data: str, *, cursor: object = None) -> str:
    """Encode an event. `data` is one line; a reader that comes back sends `cursor` as `Last-Event-ID`."""
    id_line = "" if cursor is None else f"id: {cursor}\n"
    return f"{id_line}event: {event}\ndata: {data}\n\n"


def comment(text: str) -> str:
    """Encode a line that readers skip. It keeps a silent connection open."""
    return f": {text}\n\n"
