"""Streams that a test opens. They are closed at its end, and so is the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from accounts.models import User
from workflows.conftest import token_of
from workflows.live import hub
from workflows.live.tests.sockets import (
    Connect,
    Socket,
    in_thread,
)
from workflows.models import Run, Workflow
from workflows.tests.stage import new_run


@pytest_asyncio.fixture
async def sockets() -> AsyncIterator[list[Socket]]:
    opened: list[Socket] = []
    yield opened
    for socket in opened:
        await socket.end()
    running = hub._hubs.get(asyncio.get_running_loop())
    if running and running._follower:
        running._follower.cancel()
        await asyncio.gather(running._follower, return_exceptions=True)


@pytest_asyncio.fixture
async def connect(sockets: list[Socket]) -> Connect:
    """Open a stream without credentials."""

    async def opened(path: str = "", **headers: str) -> Socket:
        socket = Socket(path, **headers)
        sockets.append(socket)
        await socket.open()
        return socket

    return opened


@pytest_asyncio.fixture
async def stream(connect: Connect) -> Connect:
    """Open a stream as a user and read its greeting."""

    async def greeted(user: User, path: str = "") -> Socket:
        socket: Socket = await connect(path, authorization=f"Bearer {await in_thread(token_of)(user)}")
        greeting = await socket.next()
        assert greeting["type"] == "connection.ready", greeting
        return socket

    return greeted


@pytest.fixture
def run(nightly: Workflow, ada: User) -> Run:
    return new_run(nightly, user=ada)
