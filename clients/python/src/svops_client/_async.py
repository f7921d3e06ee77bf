"""Runs operations on an event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

import httpx
import websockets.asyncio.client
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


class AsyncDriver:
    """Each operation has its own socket, all share the connections for HTTP."""

    def __init__(self, platform: Platform, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.platform = platform
        self._http = httpx.AsyncClient(base_url=platform.base_url, timeout=platform.timeout, transport=transport)
        self._authorizing = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, op: Op[T]) -> T:
        """Run an operation to its end and return its result."""
        result: list[T] = []
        async for _ in self._steps(op, result.append):
            """An operation that is run emits nothing."""
        return result[0]

    async def iterate(self, op: Op[None]) -> AsyncIterator[Any]:
        """Yield what an operation emits."""
        async for item in self._steps(op, lambda _result: None):
            yield item

    async def _steps(self, op: Op[T], take_result: Callable[[T], None]) -> AsyncIterator[Any]:
        socket = _Socket(self.platform)
        answer: Any = None
        failure: SVOpsError | None = None
        try:
            while True:
                try:
                    effect = op.throw(failure) if failure else op.send(answer)
                except StopIteration as end:
                    take_result(end.value)
                    return
                answer, failure = None, None
                if isinstance(effect, Emit):
                    yield effect.item
                    continue
                try:
                    answer = await self._perform(effect, socket)
                except SVOpsError as exc:
                    failure = exc
        finally:
            socket.drop()
            op.close()

    async def _perform(self, effect: Effect, socket: _Socket) -> Any:
        match effect:
            case Request():
                return await self._send(effect)
            case Wait(seconds):
                return await asyncio.sleep(seconds)
            case Authorize(refused):
                async with self._authorizing:
                    return await self.run(self.platform.credentials.authorize(self.platform, refused))
            case Ask(function):
                given = function()
                return await given if inspect.isawaitable(given) else given
            case Connect():
                return await socket.connect(effect)
            case Say(text):
                return await socket.say(text)
            case Receive(timeout):
                return await socket.receive(timeout)
        raise TypeError(effect)

    async def _send(self, request: Request) -> Response:
        try:
            answer = await self._http.request(
                request.method, request.path, params=request.query, json=request.body, headers=request.headers
            )
        except httpx.TransportError as exc:
            raise wire.lost(exc) from exc
        return wire.response(answer)


class _Socket:
    """The WebSocket of one operation."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: websockets.asyncio.client.ClientConnection | None = None

    async def connect(self, asked: Connect) -> None:
        self.drop()
        url = wire.socket_url(self._platform.base_url, asked)
        try:
            self._open = await websockets.asyncio.client.connect(url, **wire.options(asked))
        except InvalidStatus as exc:
            raise HandshakeRefusedError(exc.response.status_code, wire.lowered(exc.response.headers)) from exc
        except (OSError, WebSocketException) as exc:
            raise TransportError(f"No WebSocket: {exc}") from exc

    async def say(self, text: str) -> None:
        await self._watched(lambda connection: connection.send(text))

    async def receive(self, timeout: float) -> str | None:
        try:
            return cast("str", await asyncio.wait_for(self._watched(lambda connection: connection.recv()), timeout))
        except asyncio.TimeoutError:
            return None

    async def _watched(self, use: Callable[[websockets.asyncio.client.ClientConnection], Awaitable[Any]]) -> Any:
        if self._open is None:
            raise TransportError("The stream is not connected.")
        try:
            return await use(self._open)
        except ConnectionClosed as exc:
            self.drop()
            raise wire.closed(exc) from exc

    def drop(self) -> None:
        """End the connection at once: the other side may be gone."""
        if self._open:
            self._open.transport.abort()
            self._open = None
