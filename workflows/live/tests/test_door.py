"""Sockets of one address sign in a few at a time, so that others find a lane free."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pytest_django import Settings

from workflows.live.door import Door, entrance


class SignIns:
    """The application behind the door: each socket signs in until it is let go."""

    def __init__(self) -> None:
        self.under_way: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        async with entrance(scope):
            self.under_way.append(scope["client"][0])
            await self.go_on.wait()


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("lanes", "at_once"), [(1, 1), (2, 1), (3, 2)])
async def test_one_address_leaves_a_lane_to_others(settings: Settings, lanes: int, at_once: int) -> None:
    """Before: 100 sockets of one account stood in every lane before the stream of somebody else."""
    settings.STREAM_LANES = lanes
    inner = SignIns()
    door = Door(inner)

    def opens(address: str) -> asyncio.Task[Any]:
        return asyncio.create_task(door({"type": "websocket", "headers": [], "client": (address, 1)}, None, None))

    flood = [opens("198.51.100.66") for _ in range(20)]
    await settled()
    other = opens("192.0.2.1")
    await settled()

    assert inner.under_way == ["198.51.100.66"] * at_once + ["192.0.2.1"]
    inner.go_on.set()
    await asyncio.gather(*flood, other)
    assert inner.under_way.count("198.51.100.66") == 20
