"""The short way to a WebSocket: a frame that was made once for all is handed to the connection's transport.

ASGI's `send` costs a task switch, an encoding and three copies for each client. This goes past it, and so relies on the
insides of one server, uvicorn's sans-I/O implementation: all of that is here, and a test runs it against the
version that is installed. With any other server, or with compression, there is no wire and `send` is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # another version or none: its `send` serves as well
    WebSocketsSansIOProtocol = None  # type: ignore[assignment, misc]

SCOPE_KEY = "svops.wire"


class Wire:
    """Writes to one connection; what goes through the server's `send` before or after keeps its place."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    def write(self, frame: bytes) -> bool:
        """Hand over a frame; False, and nothing done, while the client is behind or the connection closes."""
        protocol = self._protocol
        transport = protocol.transport
        if not protocol.writable.is_set() or protocol.close_sent or transport.is_closing():
            return False
        transport.write(frame)
        return True

    def forget_handshake(self) -> None:
        """Free what the server keeps of the handshake and does not look at again."""
        protocol: Any = self._protocol
        protocol.request = protocol.response = None


def text_frame(text: str) -> bytes:
    """The WebSocket frame of a server's text message (RFC 6455, 5.2)."""
    payload = text.encode()
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def wire_of(send: Any) -> Wire | None:
    """The wire behind a server's `send`, if it is one that we know."""
    protocol = getattr(send, "__self__", None)
    if WebSocketsSansIOProtocol is None or type(protocol) is not WebSocketsSansIOProtocol:
        return None
    return None if protocol.conn.extensions else Wire(protocol)


def of_scope(scope: Mapping[str, Any]) -> Wire | None:
    """The wire of a consumer's connection."""
    found: Wire | None = scope.get(SCOPE_KEY)
    return found


def forget_handshake(scope: Mapping[str, Any]) -> None:
    """Free headers and tokens once the stream is open: kilobytes, for each of thousands of idle clients."""
    # Emptied in place: each middleware has its own copy of the scope, but not of these lists.
    for name in ("headers", "subprotocols"):
        del scope[name][:]
    if found := of_scope(scope):
        found.forget_handshake()


class WithWire:
    """Outermost ASGI application: tells the consumers their connection's wire, before others wrap `send`."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["type"] == "websocket" and (wire := wire_of(send)):
            scope[SCOPE_KEY] = wire
        return await self._application(scope, receive, send)
