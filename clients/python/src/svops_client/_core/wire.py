"""What both drivers make of the libraries' answers and errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from svops_client._core.effects import Connect, Response, SocketClosedError
from svops_client.errors import SVOpsError, TransportError

# Before these, nothing was sent.
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def lost(exc: httpx.TransportError) -> TransportError:
    return TransportError(f"No answer: {exc or type(exc).__name__}", was_sent=not isinstance(exc, UNSENT))


def response(answer: httpx.Response) -> Response:
    body: Any = None
    with suppress(ValueError):
        body = json.loads(answer.content) if answer.content else None
    return Response(answer.status_code, lowered(answer.headers), body)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def socket_url(base_url: str, asked: Connect) -> str:
    return f"{base_url.replace('http', 'ws', 1)}{asked.path}"


def options(asked: Connect) -> dict[str, Any]:
    """Return the options of a connection. Heartbeats show that it lives, so it needs no pings."""
    return {
        "subprotocols": [Subprotocol("svops.v1")],
        "additional_headers": dict(asked.headers),
        "open_timeout": asked.timeout,
        "close_timeout": 1,
        "ping_interval": None,
        "compression": None,
        "max_size": 2**26,
    }


def closed(exc: ConnectionClosed) -> SVOpsError:
    """Return what the end of a connection was: the other side's word, or a cut."""
    if exc.rcvd is None:
        return TransportError("The stream was cut.")
    return SocketClosedError(exc.rcvd.code, exc.rcvd.reason)
