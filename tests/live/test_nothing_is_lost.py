"""Whatever fails during a stream, each client ends with exactly the log."""

from __future__ import annotations

import os
import random
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from accounts.models import User
from runner.ports import free_port
from tests.live import log
from tests.live.conftest import token_of
from tests.live.parts import Redis, Web, Writer, until
from tests.live.readers import (
    Chance,
    Loop,
    PollingReader,
    Reader,
    ResumingReader,
    SlowReader,
    SSEReader,
    WebSocketReader,
    have,
    reading,
)
from workflows.eventlog import publication
from workflows.models import Event, Run

BURST = 5_000
TRANSPORTS: list[type[Reader]] = [WebSocketReader, ResumingReader, SSEReader, PollingReader]


@pytest.fixture(scope="module")
def redis(directory: Path) -> Iterator[Redis]:
    """A Redis that may be stopped."""
    with Redis(directory) as server:
        yield server


@pytest.fixture(scope="module")
def fragile(directory: Path, redis: Redis) -> Iterator[Web]:
    """A web process that may be killed, with the Redis that may be stopped."""
    with Web(directory, REDIS_URL=redis.url) as web:
        yield web


@pytest.fixture(scope="module")
def narrow(directory: Path) -> Iterator[Web]:
    """A web process whose queue for a client has room for a few hundred events."""
    with Web(directory, STREAM_QUEUE_BYTES="60000") as web:
        yield web


def one_of_each(bases: list[str], token: str, start: int, path: str = "") -> list[Reader]:
    return [kind(bases=bases, token=token, cursor=start) for kind in TRANSPORTS]


def test_fifty_clients_that_lose_their_connection_at_random_end_with_exactly_the_log(
    webs: list[Web], loop: Loop, ada: User, run: Run, start: int
) -> None:
    seed = int(os.environ.get("SVOPS_TEST_SEED") or secrets.randbelow(10**6))
    print(f"SVOPS_TEST_SEED={seed}")  # noqa: T201 - shown when the test fails, to run it again
    dice = random.Random(seed)  # noqa: S311 - chance that can be repeated
    token, bases = token_of(ada), [web.url for web in webs]
    readers: list[Reader] = []
    for kind in dice.choices(TRANSPORTS, weights=[24, 8, 14, 4], k=50):
        own = random.Random(dice.random())  # noqa: S311
        turned = bases[:: own.choice([1, -1])]
        readers.append(kind(bases=turned, token=token, cursor=start, chance=Chance(own, mean=BURST // 3)))

    with reading(loop, readers):
        written = 0
        while written < BURST:
            count = min(dice.randint(1, 400), BURST - written)
            log.append(run, count)
            written += count
        expected = log.ids_after(start)
        have(readers, expected, within=120)

    assert len(expected) == BURST
    assert sum(reader.connections for reader in readers) > 2 * len(readers)


@pytest.mark.parametrize("kind", TRANSPORTS)
def test_two_web_processes_bring_the_same_log(
    webs: list[Web], loop: Loop, ada: User, run: Run, start: int, kind: type[Reader]
) -> None:
    token = token_of(ada)
    readers = [kind(bases=[web.url], token=token, cursor=start) for web in webs]

    with reading(loop, readers):
        for _ in range(10):
            log.append(run, 7)

        have(readers, log.ids_after(start), within=15)


def test_events_arrive_while_redis_is_away_and_without_delay_after_it_is_back(
    redis: Redis, fragile: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    readers = one_of_each([fragile.url], token_of(ada), start)
    with reading(loop, readers), Writer(REDIS_URL=redis.url) as writer:
        writer.append(run, 20)
        have(readers, log.ids_after(start), within=15)
        redis.end(signal.SIGKILL)

        writer.append(run, 20)
        have(readers, log.ids_after(start), within=10)

        redis.begin()
        redis.wait_until_ready()
        writer.append(run, 20)
        have(readers, log.ids_after(start), within=10)
        # The hub has found Redis again: an event comes by its wake-up.
        until(lambda: _comes_by_its_wake_up(writer, run, readers[0], start), within=20)
        have(readers, log.ids_after(start), within=10)


def _comes_by_its_wake_up(writer: Writer, run: Run, reader: Reader, start: int) -> bool:
    """Return whether an event arrives sooner than by reading the table."""
    writer.append(run, 1)
    expected = log.ids_after(start)
    return until(lambda: reader.has(expected), within=10) < 0.5


def test_clients_of_a_web_process_that_is_killed_and_started_again_miss_nothing(
    redis: Redis, fragile: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    readers = one_of_each([fragile.url], token_of(ada), start)
    with reading(loop, readers), Writer(REDIS_URL=redis.url) as writer:
        writer.append(run, 300)
        fragile.end(signal.SIGKILL)
        writer.append(run, 300)
        fragile.begin()
        writer.append(run, 300)

        have(readers, log.ids_after(start), within=60)

    assert all(reader.connections > 1 for reader in readers)
    assert len(readers[0].ids) == 900


def test_a_burst_larger_than_every_queue_arrives_completely(
    narrow: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    readers = one_of_each([narrow.url], token_of(ada), start)
    with reading(loop, readers):
        log.append(run, 3_000)

        have(readers, log.ids_after(start), within=30)


def test_a_replay_larger_than_every_queue_keeps_the_pace_of_its_reader(
    narrow: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    log.append(run, 1_000)
    readers = one_of_each([narrow.url], token_of(ada), start)

    with reading(loop, readers):
        have(readers, log.ids_after(start), within=30)

    assert [(reader.connections, reader.closes) for reader in readers[:3]] == [(1, [])] * 3


def test_an_event_larger_than_a_queue_arrives(narrow: Web, loop: Loop, ada: User, run: Run, start: int) -> None:
    readers = one_of_each([narrow.url], token_of(ada), start)
    with reading(loop, readers):
        log.append(run, 1, size=100_000)

        have(readers, log.ids_after(start), within=15)


def test_an_event_whose_wake_up_was_never_sent_arrives_with_the_next_read_of_the_table(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    readers = one_of_each([web.url], token_of(ada), start)
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    with reading(loop, readers), Writer(REDIS_URL=nobody) as writer:
        log.append(run, 3)
        have(readers, log.ids_after(start), within=15)
        writer.append(run, 1)

        took = have(readers, log.ids_after(start), within=15)

    assert took < 10


def test_an_event_of_a_forked_process_comes_by_its_wake_up(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    reader = WebSocketReader(bases=[web.url], token=token_of(ada), cursor=start)
    with reading(loop, [reader]), Writer() as writer:
        writer.append(run, 1)
        have([reader], log.ids_after(start), within=15)

        assert writer.answer({"run": str(run.pk), "count": 1, "forks": True}) == "done"

        assert have([reader], log.ids_after(start), within=10) < 0.5


def test_an_event_of_a_process_that_died_before_publication_arrives_with_the_next(
    web: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    readers = one_of_each([web.url], token_of(ada), start)
    with reading(loop, readers):
        with Writer() as writer:
            assert writer.answer({"run": str(run.pk), "count": 2, "dies": "before publication"}) == ""
        assert Event.objects.filter(run=run, position__isnull=True).count() == 2
        assert publication.head() == start

        publication.publish()

        have(readers, [start + 1, start + 2], within=10)


def test_a_client_too_slow_for_its_queue_is_closed_with_4408_and_resumes(
    narrow: Web, loop: Loop, ada: User, run: Run, start: int
) -> None:
    slow = SlowReader(bases=[narrow.url], token=token_of(ada), cursor=start)
    with reading(loop, [slow]):
        for _ in range(200):
            log.append(run, 50)
        slow.may_read.set()

        have([slow], log.ids_after(start), within=30)

    assert set(slow.closes) == {4408}
    assert len(slow.ids) == 10_000
