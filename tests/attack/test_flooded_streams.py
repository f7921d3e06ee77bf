"""One user's streams and messages are limited, and do not keep the streams of others waiting."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from accounts.models import User
from tests.attack.conftest import PER_STREAM, PER_USER, STREAMS_PER_USER
from tests.attack.target import PATIENCE, Target
from tests.live.conftest import new_run, new_user, new_workflow, token_of
from tests.live.readers import Loop

LONGEST_OPENING = 10.0  # seconds; 14 to 23 before, on a quiet machine
MINUTES = 240.0  # for what opens many sockets on a busy machine


async def opened(web: Target, token: str, stack: AsyncExitStack) -> ClientConnection:
    """Open a stream and read its first frame."""
    headers = {"Authorization": f"Bearer {token}"}
    url = web.url.replace("http", "ws", 1) + "/api/v1/ws"
    return await stack.enter_async_context(connect(url, additional_headers=headers, open_timeout=PATIENCE))


async def first_frame(socket: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
    return frame


async def until_closed(socket: ClientConnection) -> tuple[dict[str, Any], int | None]:
    """Return the last frame and the close code."""
    last: dict[str, Any] = {}
    with suppress(ConnectionClosed):
        while True:
            last = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
    return last, socket.close_code


async def time_to_open(web: Target, token: str) -> float:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        assert (await first_frame(await opened(web, token, stack)))["type"] == "connection.ready"
        return time.monotonic() - began


def test_a_flood_of_questions_does_not_keep_others_from_opening_a_stream(web: Target, loop: Loop) -> None:
    """Before: 100 sockets with 10 get_status each made the stream of another user take 14 to 23 s to open."""
    flooder, other = new_user(), new_user()
    run = new_run(new_workflow(flooder))
    flooding, calm = token_of(flooder), token_of(other)
    question = json.dumps({"type": "get_status", "run_id": str(run.pk)})

    async def attack() -> list[float]:
        async with AsyncExitStack() as stack:
            sockets = [await opened(web, flooding, stack) for _ in range(100)]
            for socket in sockets:
                await first_frame(socket)
            for socket in sockets:
                for _ in range(10):
                    await socket.send(question)
            return [await time_to_open(web, calm) for _ in range(5)]

    assert max(loop.run(attack(), within=MINUTES)) < LONGEST_OPENING


def test_messages_on_one_stream_are_limited(web: Target, loop: Loop) -> None:
    """Before: as many as a client could send."""
    token = token_of(new_user())

    async def attack() -> tuple[dict[str, Any], int | None]:
        async with AsyncExitStack() as stack:
            socket = await opened(web, token, stack)
            with suppress(ConnectionClosed):
                for _ in range(PER_STREAM + 1):
                    await socket.send('{"type": "ping"}')
            return await until_closed(socket)

    last, code = loop.run(attack(), within=MINUTES)

    assert (last["code"], code) == ("throttled", 4429)
    assert 1 <= last["retry_after"] <= 60


def test_messages_on_all_streams_of_a_user_are_limited_together(web: Target, loop: Loop) -> None:
    """Before: as many as a client could send."""
    token = token_of(new_user())

    async def attack() -> list[int | None]:
        codes = []
        async with AsyncExitStack() as stack:
            for _ in range(PER_USER // PER_STREAM + 1):
                socket = await opened(web, token, stack)
                with suppress(ConnectionClosed):
                    for _ in range(PER_STREAM):
                        await socket.send('{"type": "ping"}')
                    await asyncio.wait_for(_pongs(socket, PER_STREAM), PATIENCE)
                codes.append(socket.close_code)
        return codes

    assert loop.run(attack(), within=55)[-1] == 4429


async def _pongs(socket: ClientConnection, count: int) -> None:
    while count:
        count -= json.loads(await socket.recv())["type"] == "pong"


def test_streams_of_one_user_are_limited_with_all_of_the_users_keys(web: Target, loop: Loop) -> None:
    """Before: 600 new ones in a minute, and no limit on how many stay."""
    ada, other = new_user(), new_user()
    tokens, of_another = [token_of(ada) for _ in range(3)], token_of(other)

    async def attack() -> tuple[list[str], tuple[dict[str, Any], int | None], str, int]:
        async with AsyncExitStack() as stack:
            first = [await opened(web, tokens[n % 3], stack) for n in range(STREAMS_PER_USER)]
            greetings = [(await first_frame(socket))["type"] for socket in first]
            refused = await until_closed(await opened(web, tokens[0], stack))
            greeting = (await first_frame(await opened(web, of_another, stack)))["type"]
            return greetings, refused, greeting, await asyncio.to_thread(_server_sent, web, tokens[1])

    greetings, (last, code), of_the_other, status = loop.run(attack(), within=MINUTES)

    assert greetings == ["connection.ready"] * STREAMS_PER_USER
    assert (last["code"], code) == ("throttled", 4429)
    assert of_the_other == "connection.ready"
    assert status == 429
    assert _is_admitted_again(web, ada)


def _server_sent(web: Target, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    with requests.get(f"{web.url}/api/v1/events/stream", headers=headers, stream=True, timeout=PATIENCE) as answer:
        return answer.status_code


def _is_admitted_again(web: Target, user: User) -> bool:
    """Return whether a stream is opened once the others have closed: the server may need a moment to notice."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if _server_sent(web, token_of(user)) == 200:
            return True
    return False
