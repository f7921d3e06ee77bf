"""What an operation may ask of the driver that runs it, and what the driver answers or raises.

An operation is a generator: it yields an effect, and gets the answer back. So one text serves both clients, the one
that blocks and the one that awaits, and a test can be the driver itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from svops_client.errors import SVOpsError

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """Send this and answer the `Response`. Raises `TransportError`."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in small letters
    json: Any


@dataclass(frozen=True)
class Wait:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Authorize:
    """Answer the header `Authorization`, or None. `refused` is one that the platform does not accept any more.

    One at a time: a refresh token works once.
    """

    refused: str | None


@dataclass(frozen=True)
class Ask:
    """Call a function of the user and answer what it returns; the async driver awaits that if it can."""

    function: Callable[[], str | Awaitable[str]]


@dataclass(frozen=True)
class Connect:
    """Open a WebSocket in place of the one before. Raises `TransportError` or `HandshakeRefusedError`."""

    path: str
    headers: Mapping[str, str]
    timeout: float


@dataclass(frozen=True)
class Say:
    """Send a text on the WebSocket. Raises `TransportError` or `SocketClosedError`."""

    text: str


@dataclass(frozen=True)
class Receive:
    """Answer the next text of the WebSocket, or None after the timeout. Raises as `Say` does."""

    timeout: float


@dataclass(frozen=True)
class Emit:
    """Hand this to the one who iterates."""

    item: Any


Effect = Request | Wait | Authorize | Ask | Connect | Say | Receive | Emit
Op = Generator[Effect, Any, T]


class HandshakeRefusedError(SVOpsError):
    """The answer to the handshake of a WebSocket was no."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the WebSocket was refused with {status}")
        self.status = status
        self.headers = headers


class SocketClosedError(SVOpsError):
    """The other side has closed the WebSocket."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"the stream was closed with {code} {reason}".strip())
        self.code = code
        self.reason_or_code = reason or f"The stream was closed with {code}."


def tapped(op: Op[T], take: Callable[[Any], None]) -> Op[T]:
    """Run an operation and give what it emits to `take`, instead of to the one who iterates."""
    answer: Any = None
    failure: SVOpsError | None = None
    while True:
        try:
            effect = op.throw(failure) if failure else op.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        answer, failure = None, None
        if isinstance(effect, Emit):
            take(effect.item)
            continue
        try:
            answer = yield effect
        except SVOpsError as exc:
            failure = exc


def without_items(op: Op[T]) -> Op[T]:
    """Run an operation and drop what it emits."""
    return (yield from tapped(op, lambda _item: None))


def collected(op: Op[None]) -> Op[list[Any]]:
    """Run an operation and return what it emits."""
    found: list[Any] = []
    yield from tapped(op, found.append)
    return found
