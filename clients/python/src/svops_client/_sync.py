"""Runs operations in the calling thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from time import sleep
from typing import Any, TypeVar, cast

import httpx
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from svops_client._core import wire
from svops_client._core.effects import (
    Ask,
    Authorize,
    Connect,
    Effect,
    Emit,
    HandshakeRefusedError,
    Op,
    Receive,
    Request,
    Response,
    Say,
    Wait,
)
from svops_client._core.platform import Platform
from svops_client.errors import SVOpsError, TransportError

T = TypeVar("T")


class SyncDriver:
    """Safe to use in several threads: each operation has its own socket, all share the connections for HTTP."""

    def __init__(self, platform: Platform, transport: httpx.BaseTransport | None = None) -> None:
        self.platform = platform
        self._http = httpx.Client(base_url=platform.base_url, timeout=platform.timeout, transport=transport)
        self._authorizing = threading.Lock()

    def close(self) -> None:
        self._http.close()

    def run(self, op: Op[T]) -> T:
        """Run an operation to its end and return its result."""
        items = self._steps(op)
        while True:
            try:
                next(items)
            except StopIteration as end:
                return cast("T", end.value)

    def iterate(self, op: Op[None]) -> Iterator[Any]:
        """Yield what an operation emits."""
        yield from self._steps(op)

    def _steps(self, op: Op[T]) -> Generator[Any, None, T]:
        socket = _Socket(self.platform)
        answer: Any = None
        failure: SVOpsError | None = None
        try:
            while True:
                try:
                    effect = op.throw(failure) if failure else op.send(answer)
                except StopIteration as end:
                    return cast("T", end.value)
                answer, failure = None, None
                if isinstance(effect, Emit):
                    yield effect.item
                    continue
                try:
                    answer = self._perform(effect, socket)
                except SVOpsError as exc:
                    failure = exc
        finally:
            socket.drop()
            op.close()

    def _perform(self, effect: Effect, socket: _Socket) -> Any:
        match effect:
            case Request():
                return self._send(effect)
            case Wait(seconds):
                return sleep(seconds)
            case Authorize(refused):
                with self._authorizing:
                    return self.run(self.platform.credentials.authorize(self.platform, refused))
            case Ask(function):
                return function()
            case Connect():
                return socket.connect(effect)
            case Say(text):
                return socket.say(text)
            case Receive(timeout):
                return socket.receive(timeout)
        raise TypeError(effect)

    def _send(self, request: Request) -> Response:
        try:
            answer = self._http.request(
                request.method, request.path, params=request.query, json=request.body, headers=request.headers
            )
        except httpx.TransportError as exc:
            raise wire.lost(exc) from exc
        return wire.response(answer)


class _Socket:
    """The WebSocket of one operation."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: websockets.sync.client.ClientConnection | None = None
        self._held = ExitStack()

    def connect(self, asked: Connect) -> None:
        self.drop()
        url = wire.socket_url(self._platform.base_url, asked)
        try:
            self._open = self._held.enter_context(websockets.sync.client.connect(url, **wire.options(asked)))
        except InvalidStatus as exc:
            raise HandshakeRefusedError(exc.response.status_code, wire.lowered(exc.response.headers)) from exc
        except (OSError, WebSocketException) as exc:
            raise TransportError(f"No WebSocket: {exc}") from exc

    def say(self, text: str) -> None:
        self._watched(lambda connection: connection.send(text))

    def receive(self, timeout: float) -> str | None:
        try:
            return cast("str", self._watched(lambda connection: connection.recv(timeout)))
        except TimeoutError:
            return None

    def _watched(self, use: Callable[[websockets.sync.client.ClientConnection], Any]) -> Any:
        if self._open is None:
            raise TransportError("The stream is not connected.")
        try:
            return use(self._open)
        except ConnectionClosed as exc:
            self.drop()
            raise wire.closed(exc) from exc

    def drop(self) -> None:
        """End the connection at once: the other side may be gone."""
        if self._open:
            self._open.close_timeout = 0
            self._open = None
            self._held.close()
