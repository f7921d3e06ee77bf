from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from workflows.live import wire

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@asynccontextmanager
async def served(application: Application, **options: Any) -> AsyncIterator[str]:
    """Run the application under the installed uvicorn. Yield the address of its WebSocket."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(wire.WithWire(application), lifespan="off", log_level="warning", **options)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def connected(application: Application, **options: Any) -> AsyncIterator[ClientConnection]:
    async with served(application, **options) as address, connect(address) as client:
        yield client


async def accepted(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})


async def test_frames_of_every_length_arrive_in_order_with_the_messages_of_send_between_them() -> None:
    texts = ["a", "ä" * 62, "b" * 126, "ö" * 40_000]

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await accepted(receive, send)
        found = wire.of_scope(scope)
        assert found
        wire.forget_handshake(scope)
        assert scope["headers"] == []
        for text in texts:
            assert found.write(wire.text_frame(text))
            await send({"type": "websocket.send", "text": f"after {len(text)}"})
        await receive()

    async with connected(application, ws_per_message_deflate=False) as client:
        received = [await client.recv() for _ in range(2 * len(texts))]

    assert received == [part for text in texts for part in (text, f"after {len(text)}")]


async def test_a_client_that_does_not_read_is_not_written_to() -> None:
    written: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await accepted(receive, send)
        found = wire.of_scope(scope)
        assert found
        frames = 0
        while found.write(wire.text_frame("x" * 100_000)):
            frames += 1
            await asyncio.sleep(0)
        written.set_result(frames)
        await receive()

    async with connected(application, ws_per_message_deflate=False, ws_ping_interval=None) as client:
        client.transport.pause_reading()
        frames = await asyncio.wait_for(written, 20)
        client.transport.resume_reading()
        received = [await client.recv() for _ in range(frames)]

    assert 0 < frames < 1000
    assert {len(text) for text in received} == {100_000}


async def test_a_connection_that_closes_is_not_written_to() -> None:
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await accepted(receive, send)
        found = wire.of_scope(scope)
        assert found
        await send({"type": "websocket.close", "code": 4408})
        outcome.set_result(found.write(wire.text_frame("late")))

    async with connected(application, ws_per_message_deflate=False) as client:
        with pytest.raises(ConnectionClosedError) as closing:
            await client.recv()

    assert closing.value.rcvd
    assert closing.value.rcvd.code == 4408
    assert outcome.result() is False


async def test_with_compression_there_is_no_wire_and_send_is_used() -> None:
    found: asyncio.Future[wire.Wire | None] = asyncio.get_running_loop().create_future()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await accepted(receive, send)
        found.set_result(wire.of_scope(scope))
        await send({"type": "websocket.send", "text": "still served"})
        await receive()

    async with connected(application, ws_per_message_deflate=True) as client:
        assert await client.recv() == "still served"

    assert found.result() is None


def test_an_unknown_server_has_no_wire() -> None:
    async def send(message: dict[str, Any]) -> None:
        raise NotImplementedError

    assert wire.wire_of(send) is None
