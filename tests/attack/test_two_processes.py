"""Several web processes: what a caller does is counted for all of them, what a caller holds in each of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
import requests

from tests.attack.target import PATIENCE, Target
from tests.attack.test_flooded_streams import first_frame, opened, until_closed
from tests.live.conftest import new_user, token_of
from tests.live.readers import Loop
from workflows.airflow.tests.scripted import ScriptedAirflow

STREAMS, REQUESTS = 3, 6

Pair = tuple[Target, Target]


@pytest.fixture(scope="module")
def pair(directory: Path, scripted_airflow: ScriptedAirflow, db: None) -> Iterator[Pair]:
    limits = {"STREAMS_PER_USER": f"{STREAMS}", "RATE_LIMIT_API": f"{REQUESTS}/hour", "RATE_LIMIT_STREAM": "off"}
    with ExitStack() as running:
        first, second = (Target(directory, AIRFLOW_URL=scripted_airflow.url, **limits) for _ in range(2))
        for web in (first, second):
            web.begin()
            running.push(web)
        for web in (first, second):
            web.wait_until_ready()
        yield first, second


async def openings(web: Target, token: str, stack: AsyncExitStack, count: int) -> list[str]:
    """Open streams, keep those that open, and return what each said: ready, or the close code."""
    said = []
    for _ in range(count):
        socket = await opened(web, token, stack)
        frame = await first_frame(socket)
        said.append("ready" if frame["type"] == "connection.ready" else str((await until_closed(socket))[1]))
    return said


def test_streams_are_counted_in_each_process_and_go_with_it(pair: Pair, loop: Loop) -> None:
    """Before: as now, but nothing said so. A count for all processes would let one of them bear all streams."""
    first, second = pair
    token, other = token_of(new_user()), token_of(new_user())

    async def attack() -> tuple[list[list[str]], list[str]]:
        async with AsyncExitStack() as stack:
            held = [await openings(web, token, stack, STREAMS + 1) for web in (first, second)]
            held.append(await openings(first, other, stack, 1))
            first.end(signal.SIGKILL)
            first.begin()
            first.wait_until_ready()
            return held, await openings(first, token, stack, STREAMS + 1)

    held, after_the_kill = loop.run(attack(), within=240.0)

    full = ["ready"] * STREAMS + ["4429"]
    assert held == [full, full, ["ready"]]
    assert after_the_kill == full


def test_requests_are_counted_for_all_processes_together(pair: Pair) -> None:
    """Before: as now. Each process with a count of its own would double the limit."""
    headers = {"Authorization": f"Bearer {token_of(new_user())}"}

    statuses = [
        requests.get(f"{pair[number % 2].url}/api/v1/auth/me", headers=headers, timeout=PATIENCE).status_code
        for number in range(2 * REQUESTS)
    ]

    assert statuses == [200] * REQUESTS + [429] * REQUESTS
