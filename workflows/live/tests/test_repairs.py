"""Wake-ups that are lost, and a Redis that is away: the events come from the table."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from channels_redis.pubsub import RedisPubSubLoopLayer
from pytest_django import Settings

from accounts.models import User
from tests.live.parts import Redis
from workflows.airflow.tests.scripted import unused_port
from workflows.eventlog.tests.layers import layers_at
from workflows.live import hub, wakes
from workflows.live.tests.sockets import (
    Connect,
    happen,
    in_thread,
    publish_silently,
)
from workflows.models import Run, Visibility, Workflow

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_lost_wake_up_is_repaired_after_a_silence(
    stream: Connect, ada: User, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUIET", 0.1)
    socket = await stream(ada)
    # Twice: then the hub has read the table after its subscription.
    for n in (1, 2):
        await happen(run)
        assert await socket.delivered() == [n]

    await publish_silently(run, 2)

    assert [(await socket.next())["id"] for _ in range(2)] == [3, 4]


async def test_a_lost_wake_up_is_repaired_by_the_next_one(stream: Connect, ada: User, run: Run) -> None:
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]

    await publish_silently(run, 2)
    await happen(run)

    assert await socket.delivered() == [2, 3, 4]


async def test_without_redis_events_come_from_the_table(
    stream: Connect, ada: User, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WITHOUT_REDIS", 0.1)
    with unused_port() as port:
        settings.CHANNEL_LAYERS = layers_at(f"redis://127.0.0.1:{port}/0")
        socket = await stream(ada)

        await publish_silently(run, 2)

        assert [(await socket.next())["id"] for _ in range(2)] == [1, 2]


async def test_events_from_the_table_are_shown_by_the_rights_of_that_moment(
    stream: Connect, eve: User, nightly: Workflow, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "WITHOUT_REDIS", 0.1)
    with unused_port() as port:
        settings.CHANNEL_LAYERS = layers_at(f"redis://127.0.0.1:{port}/0")
        socket = await stream(eve)
        await publish_silently(run, 1)
        assert (await socket.next())["id"] == 1

        await in_thread(Workflow.objects.filter(pk=nightly.pk).update)(visibility=Visibility.PRIVATE)
        await publish_silently(run, 1)

        assert await socket.delivered() == []


@pytest.fixture
def own_redis(settings: Settings, tmp_path: Path) -> Iterator[Redis]:
    """A Redis that a test may stop. Only the channel layer uses it."""
    with Redis(tmp_path) as server:
        settings.CHANNEL_LAYERS = layers_at(server.url)
        yield server


async def test_a_redis_that_dies_and_comes_back_loses_no_event(
    own_redis: Redis, stream: Connect, ada: User, run: Run
) -> None:
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]
    await asyncio.to_thread(own_redis.end, signal.SIGKILL)

    await happen(run, run)
    assert await socket.delivered() == [2, 3]

    await asyncio.to_thread(own_redis.begin)
    await asyncio.to_thread(own_redis.wait_until_ready)
    await happen(run)
    assert await socket.delivered() == [4]


async def test_a_reconnection_of_the_layer_is_repaired_at_once_by_the_rights_of_that_moment(
    own_redis: Redis,
    stream: Connect,
    ada: User,
    eve: User,
    nightly: Workflow,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "QUIET", 60)
    owners, strangers = await stream(ada), await stream(eve)
    await happen(run)
    assert (await owners.delivered(), await strangers.delivered()) == ([1], [1])

    with redis.Redis.from_url(own_redis.url) as server:
        server.client_kill_filter(_type="pubsub")
    await in_thread(Workflow.objects.filter(pk=nightly.pk).update)(visibility=Visibility.PRIVATE)
    await publish_silently(run, 1)

    assert await asyncio.wait_for(owners.next(), 5)
    assert await strangers.delivered() == []


async def test_a_layer_that_drops_messages_loses_no_event(
    stream: Connect, ada: User, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUIET", 0.2)
    socket = await stream(ada)
    receive, dice = RedisPubSubLoopLayer.receive, random.Random(1)  # noqa: S311 - chance that can be repeated

    async def drop_some(layer: Any, channel: str) -> Any:
        while dice.random() < 0.5:
            await receive(layer, channel)
        return await receive(layer, channel)

    monkeypatch.setattr(RedisPubSubLoopLayer, "receive", drop_some)
    for _ in range(30):
        await happen(run)

    assert await socket.delivered() == list(range(1, 31))


async def test_an_idle_layer_with_a_socket_timeout_still_receives(
    stream: Connect, ada: User, run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read timeout of redis-py must not end the receiver of the layer."""
    monkeypatch.setattr(hub, "QUIET", 60)
    monkeypatch.setattr(wakes, "CUT_OFF", 60)
    monkeypatch.setattr(wakes, "PULSE", 60)
    settings.CHANNEL_LAYERS = layers_at(settings.REDIS_URL)
    settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"][0]["socket_timeout"] = 0.05
    socket = await stream(ada)
    await happen(run)
    assert await socket.delivered() == [1]
    await asyncio.sleep(0.5)

    await happen(run)

    assert (await asyncio.wait_for(socket.next(), 5))["id"] == 2
