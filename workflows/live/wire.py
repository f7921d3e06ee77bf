"""The short way to a WebSocket: writes a frame that was made once for all clients to a connection's transport.

ASGI's `send` costs a task switch, an encoding and three copies for each client. A wire avoids that. It relies on the
internals of one server, uvicorn's sans-I/O implementation. All of that code is here, and a test runs it against the
installed version. With any other server, or with compression, there is no wire and `send` is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
except ImportError:  # another version or none: `send` works with it
    WebSocketsSansIOProtocol = None  # type: ignore[assignment, misc]

SCOPE_KEY = "svops.wire"


class Wire:
    """Writes to one connection. Messages of the server's `send` before and after keep their order."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    def write(self, frame: bytes) -> bool:
        """Write a frame. Return False without writing while the client is behind or the connection closes."""
        protocol = self._protocol
        transport = protocol.transport
        if not protocol.writable.is_set() or protocol.close_sent or transport.is_closing():
            return False
        transport.write(frame)
        return True

    def forget_handshake(self) -> None:
        """Free what the server keeps of the handshake and never uses again."""
        protocol: Any = self._protocol
        protocol.request = protocol.response = None


def text_frame(text: str) -> bytes:
    """Return the WebSocket frame of a server's text message (RFC 6455, 5.2)."""
    payload = text.encode()
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


def wire_of(send: Any) -> Wire | None:
    """Return the wire behind a server's `send`, or None for an unknown server."""
    protocol = getattr(send, "__self__", None)
    if WebSocketsSansIOProtocol is None or not isinstance(protocol, WebSocketsSansIOProtocol):
        return None
    return None if protocol.conn.extensions else Wire(protocol)


def of_scope(scope: Mapping[str, Any]) -> Wire | None:
    """Return the wire of a consumer's connection, if it has one."""
    found: Wire | None = scope.get(SCOPE_KEY)
    return found


def forget_handshake(scope: Mapping[str, Any]) -> None:
    """Free headers and tokens once the stream is open. They take kilobytes for each of thousands of idle clients."""
    # Emptied in place: each middleware has its own copy of the scope, and all copies share these lists.
    for name in ("headers", "subprotocols"):
        del scope[name][:]
    if found := of_scope(scope):
        found.forget_handshake()


class WithWire:
    """The outermost ASGI application. It passes the wire to the consumers before others wrap `send`."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["type"] == "websocket" and (wire := wire_of(send)):
            scope[SCOPE_KEY] = wire
        return await self._application(scope, receive, send)
