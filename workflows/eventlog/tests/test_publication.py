"""Publication: each committed event gets one position, and no event appears before a later position."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as Flag
from typing import Any
from uuid import UUID

import pytest
import redis
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from pytest_django import Settings

from tests.live.parts import Redis
from workflows.airflow.tests.scripted import unused_port
from workflows.eventlog import events, layer, publication
from workflows.eventlog.layer import channel_layer
from workflows.eventlog.publication import Published
from workflows.eventlog.tests.layers import layers_at
from workflows.models import Event, LogHead, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, EACH, PUBLISHERS = 8, 10, 3
PACE = 0.01  # seconds between two turns of a loop that would otherwise hold SQLite's lock all the time


@pytest.fixture
def run(nightly: Workflow) -> Run:
    return new_run(nightly)


def record(run: Run | None, second: float = 0) -> Event:
    """Record an event in its own transaction. It is published after the commit."""
    with transaction.atomic():
        data = events.WorkflowStarted(airflow=DEFAULT, state=RunState.RUNNING, attempt=1, started_at=at(second))
        return events.record(data, now=at(second), run=run)


def record_unpublished(run: Run) -> None:
    """Record an event as a process does that dies between commit and publication."""
    with transaction.atomic():
        record(run)
        transaction.get_connection().run_on_commit.clear()


def positions() -> list[int | None]:
    return list(Event.objects.order_by("id").values_list("position", flat=True))


def test_an_event_is_published_after_its_commit_and_not_before(run: Run) -> None:
    with transaction.atomic():
        record(run)
        assert positions() == [None]

    assert (positions(), publication.head()) == ([1], 1)


def test_a_change_that_is_rolled_back_leaves_no_event(run: Run) -> None:
    with transaction.atomic():
        record(run)
        transaction.set_rollback(True)

    assert (positions(), publication.head()) == ([], 0)
    run.refresh_from_db()
    assert run.event_count == 0


def test_an_event_outside_a_transaction_is_refused(run: Run) -> None:
    with pytest.raises(RuntimeError, match="must share the transaction"):
        events.record(events.AirflowUp(airflow=DEFAULT, version="3"), now=NOW)

    assert positions() == []


def test_an_event_that_a_crash_left_unpublished_is_published_with_the_next(run: Run) -> None:
    record_unpublished(run)
    assert positions() == [None]

    record(run)

    assert positions() == [1, 2]


def test_publishing_again_changes_nothing(run: Run) -> None:
    record(run)

    assert publication.publish() == 0

    assert (positions(), publication.head()) == ([1], 1)


def test_more_than_one_batch_is_published_completely(run: Run) -> None:
    rows = [Event(run=run, seq=n, type="workflow.started", timestamp=NOW) for n in range(1, publication.BATCH + 8)]
    Event.objects.bulk_create(rows)

    assert publication.publish() == publication.BATCH + 7

    assert positions() == list(range(1, publication.BATCH + 8))
    assert [event.position for event in publication.read_after(publication.BATCH)] == list(range(501, 508))


def test_the_envelope_has_one_shape(run: Run, nightly: Workflow) -> None:
    record(run, 5)

    [published] = publication.read_after(0)

    assert json.loads(published.frame) == {
        "id": 1,
        "seq": 1,
        "type": "workflow.started",
        "workflow_id": nightly.pk,
        "run_id": str(run.pk),
        "task_id": None,
        "user_id": run.user_id,
        "timestamp": "2026-03-01T12:00:05Z",
        "data": {"state": "running", "attempt": 1, "airflow": "default", "started_at": "2026-03-01T12:00:05Z"},
    }


def test_an_event_without_a_position_has_no_frame(run: Run) -> None:
    record_unpublished(run)

    with pytest.raises(ValueError, match="only a published event"):
        publication.as_published(Event.objects.get())


def test_a_sink_is_called_in_the_transaction_of_the_event(run: Run, settings: Settings) -> None:
    settings.EVENT_SINKS = [f"{__name__}.refusing_sink"]

    with pytest.raises(RuntimeError, match=r"^workflow\.started$"):
        record(run)

    assert positions() == []


def refusing_sink(recorded: Sequence[Event]) -> None:
    raise RuntimeError(", ".join(event.type for event in recorded))


# --- The channel layer is a hint --------------------------------------------------------------------------------


@sync_to_async
def record_in_thread(run: Run) -> list[Published]:
    try:
        record(run)
        return publication.read_after(0)
    finally:
        connection.close()


async def new_channel_in(group: str) -> str:
    channel: str = await channel_layer().new_channel()
    await channel_layer().group_add(group, channel)
    return channel


async def test_the_wake_up_carries_the_encoded_event(run: Run) -> None:
    channel = await new_channel_in(publication.LOG_GROUP)

    logged = await record_in_thread(run)

    async with asyncio.timeout(5):
        while (message := await channel_layer().receive(channel))["type"] != publication.EVENTS:
            continue
    assert publication.events_of_wake_up(message) == logged


async def test_a_change_of_rights_is_sent_to_the_group_of_rights() -> None:
    channel = await new_channel_in(publication.RIGHTS_GROUP)

    await sync_to_async(publication.send_rights_changed)()

    async with asyncio.timeout(5):
        assert await channel_layer().receive(channel) == {"type": publication.RIGHTS_CHANGED}


def test_without_redis_events_are_published_and_the_failure_is_logged_once(
    run: Run, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    record(run)
    with unused_port() as port:
        settings.CHANNEL_LAYERS = layers_at(f"redis://127.0.0.1:{port}/0")
        record(run)
        record(run)

    assert positions() == [1, 2, 3]
    assert [r.message for r in caplog.records if r.name == layer.__name__] == [
        "no wake-up: the channel layer does not answer"
    ]


@pytest.fixture
def own_redis(settings: Settings, tmp_path: Path) -> Iterator[Redis]:
    """A Redis for the channel layer alone."""
    with Redis(tmp_path) as server:
        settings.CHANNEL_LAYERS = layers_at(server.url)
        yield server


def test_a_wake_up_is_sent_although_redis_has_closed_the_connection_meanwhile(run: Run, own_redis: Redis) -> None:
    with redis.Redis.from_url(own_redis.url) as server:
        record(run)
        server.client_kill_filter(_type="normal", skipme=True)
        before = published_messages(server)

        record(run)

        assert published_messages(server) == before + 1


def published_messages(server: redis.Redis) -> int:
    info: Any = server.info("commandstats")
    return int(info["cmdstat_publish"]["calls"])


def test_a_redis_that_hangs_delays_a_publisher_only_for_a_moment(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its timeout, the publisher would wait here until the test is ended."""
    monkeypatch.setattr(layer, "SEND_TIMEOUT", 0.1)
    # Of its own: a failure is logged once, and another test may have had one.
    sender = layer.Sender()
    monkeypatch.setattr(layer, "_sender", sender)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.CHANNEL_LAYERS = layers_at(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        record(run)
    sender.close()

    assert positions() == [1]
    assert [vars(r)["error"] for r in caplog.records if r.name == layer.__name__] == ["TimeoutError"]


async def test_a_publisher_inside_a_running_event_loop_sends_too() -> None:
    """As code is that a browser test or a notebook runs: its thread has a loop already."""
    channel = await channel_layer().new_channel()
    await channel_layer().group_add("svops.test", channel)

    layer.send("svops.test", {"type": "test", "number": 7})

    async with asyncio.timeout(10):
        assert await channel_layer().receive(channel) == {"type": "test", "number": 7}
    await channel_layer().group_discard("svops.test", channel)


# --- Many at once ---------------------------------------------------------------------------------------------


def closing(work: Any) -> Any:
    """Return `work` for a thread. It closes the thread's own connection to the database."""

    def run_and_close(*args: Any) -> Any:
        try:
            return work(*args)
        finally:
            connection.close()

    return run_and_close


def test_with_many_writers_and_publishers_followers_miss_no_event(
    nightly: Workflow,
) -> None:
    runs = [new_run(nightly) for _ in range(WRITERS // 2)]
    done = Flag()

    def write(number: int) -> None:
        for _ in range(EACH):
            record(runs[number % len(runs)])

    def publish() -> None:
        while not done.wait(PACE):
            publication.publish()

    def follow() -> list[int]:
        cursor, seen = 0, []
        while not (last := done.wait(PACE)) or publication.head() > cursor:
            page = publication.read_after(cursor, limit=7)
            seen += [event.position for event in page]
            cursor = seen[-1] if seen else 0
            if last and not page:
                break
        return seen

    with ThreadPoolExecutor(WRITERS + PUBLISHERS + 2) as pool:
        publishing = [pool.submit(closing(publish)) for _ in range(PUBLISHERS)]
        following = [pool.submit(closing(follow)) for _ in range(2)]
        try:
            for writing in [pool.submit(closing(write), number) for number in range(WRITERS)]:
                writing.result(timeout=120)
            publication.publish()
        finally:
            done.set()
        for publisher in publishing:
            publisher.result(timeout=60)
        seen = [follower.result(timeout=60) for follower in following]

    total = WRITERS * EACH
    assert seen == [list(range(1, total + 1))] * 2
    assert LogHead.objects.get().position == total
    assert_seq_follows_position({run.pk for run in runs})


def assert_seq_follows_position(run_ids: set[UUID]) -> None:
    for run_id in run_ids:
        seqs = list(Event.objects.filter(run=run_id).order_by("position").values_list("seq", flat=True))
        assert seqs == list(range(1, 2 * EACH + 1))
