"""Many processes record and publish at once, and die at any line: the log keeps its order and misses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event as Flag
from types import TracebackType
from typing import Any, Self

import psycopg
import pytest
from django.db import connection

from runner.home import REPOSITORY
from tests.live import parts
from tests.live.parts import until
from workflows.conftest import ada, etl, nightly
from workflows.eventlog import positions, publication
from workflows.eventlog.layer import channel_layer
from workflows.eventlog.tests.test_publication import closing as closing_connections
from workflows.eventlog.tests.test_publication import record
from workflows.models import Event, Run, Workflow
from workflows.tests.stage import new_run

__all__ = ["ada", "etl", "nightly"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

PROCESSES, TIMES = 6, 12
PACE = 0.01  # seconds between two reads of a follower
postgresql_only = pytest.mark.skipif(
    "postgres" not in os.environ.get("DATABASE_URL", ""), reason="SQLite has one writer at a time, who waits"
)


class Recorders:
    """Gives orders to `tests.live.recorders`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.recorders"],
            cwd=REPOSITORY,
            env=dict(os.environ)
            | {"DATABASE_URL": parts.test_database_url(), "DATABASE_POOL_SIZE": "1", "LOG_LEVEL": "ERROR"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def record(self, runs: list[Run], *, times: int = 1, size: int = 1, dies_at: int = 0) -> list[list[int]]:
        """Let a process for each of these runs record. Return the exit code and the steps of each."""
        order = {"runs": [str(run.pk) for run in runs], "times": times, "size": size, "dies_at": dies_at}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: list[list[int]] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture
def recorders() -> Iterator[Recorders]:
    with Recorders() as recorders:
        yield recorders


def unpublished() -> int:
    return Event.objects.filter(position__isnull=True).count()


def all_positions() -> list[int | None]:
    return list(Event.objects.order_by("position").values_list("position", flat=True))


def follow(done: Flag) -> list[int]:
    """Read the log as a client does, until nothing more comes."""
    cursor, seen = 0, []
    while True:
        is_last = done.wait(PACE)
        page = publication.read_after(cursor, limit=7)
        seen += [event.position for event in page]
        cursor = seen[-1] if seen else 0
        if is_last and not page:
            return seen


def test_what_many_processes_record_is_published_in_order_without_a_tick(
    recorders: Recorders, nightly: Workflow
) -> None:
    runs = [new_run(nightly) for _ in range(PROCESSES // 2)]
    done = Flag()
    with ThreadPoolExecutor(2) as pool:
        following = [pool.submit(closing_connections(follow), done) for _ in range(2)]
        try:
            endings = recorders.record(runs * 2, times=TIMES, size=2)
        finally:
            done.set()
        seen = [follower.result(timeout=60) for follower in following]

    total = PROCESSES * TIMES * 2
    assert [code for code, _ in endings] == [0] * PROCESSES
    assert unpublished() == 0
    assert all_positions() == list(range(1, total + 1))
    assert seen == [list(range(1, total + 1))] * 2
    for run in runs:
        seqs = list(Event.objects.filter(run=run).order_by("position").values_list("seq", flat=True))
        assert seqs == list(range(1, total // len(runs) + 1))


async def test_each_event_is_in_exactly_one_wake_up_whoever_publishes_it(
    recorders: Recorders, nightly: Workflow
) -> None:
    layer = channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(publication.LOG_GROUP, channel)
    loop = asyncio.get_running_loop()
    announced: list[int] = []

    def work() -> None:
        try:
            recorders.record([new_run(nightly) for _ in range(4)], times=15)
        finally:
            connection.close()

    working = loop.run_in_executor(None, work)
    async with asyncio.timeout(120):
        while len(announced) < 4 * 15:
            message = await layer.receive(channel)
            if message["type"] == publication.EVENTS:
                announced += [event.position for event in publication.events_of_wake_up(message)]
    await working

    assert sorted(announced) == list(range(1, 4 * 15 + 1))


def test_a_process_that_dies_at_any_line_leaves_a_log_that_the_next_publisher_completes(
    recorders: Recorders, nightly: Workflow
) -> None:
    steps = steps_of(recorders, nightly)
    expected = publication.head()
    for step in range(1, steps + 1):
        run = new_run(nightly)

        [[code, _]] = recorders.record([run], size=3, dies_at=step)

        assert code == -9, step
        # A server process of PostgreSQL notices a moment later. Until then it may hold the lock, or still commit.
        until(lambda: not sessions(), within=30)
        publication.publish()
        kept = Event.objects.filter(run=run).count()
        run.refresh_from_db()
        assert kept in (0, 3), step
        assert run.event_count == kept, step
        expected += kept
        assert all_positions() == list(range(1, expected + 1)), step
        assert publication.head() == expected, step


def test_processes_that_die_beside_others_hold_up_nobody(recorders: Recorders, nightly: Workflow) -> None:
    steps, killed = steps_of(recorders, nightly), 0
    for step in range(1, steps + 1, max(1, steps // 5)):
        runs = [new_run(nightly) for _ in range(3)]

        endings = recorders.record(runs, times=3, dies_at=step)

        # Its last steps are left out if another process publishes for it.
        assert [code for code, _ in endings[1:]] == [0, 0]
        killed += endings[0][0] == -9
        until(lambda: not sessions(), within=30)
        publication.publish()
        assert all_positions() == list(range(1, Event.objects.count() + 1)), step
    assert killed >= 3


def steps_of(recorders: Recorders, workflow: Workflow) -> int:
    """Return the steps of one batch. The first events make the head of the log, and are no measure."""
    recorders.record([new_run(workflow)])
    [[code, steps]] = recorders.record([new_run(workflow)], size=3)
    assert code == 0
    assert steps > 20
    return steps


def sessions() -> bool:
    """Return whether PostgreSQL still has sessions of the recorders that have ended."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = %s)"
            " OR EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle')",
            [positions.LOCK & 0xFFFFFFFF],
        )
        return bool(cursor.fetchone()[0])


# --- A publisher that takes long ------------------------------------------------------------------------------------


@contextmanager
def held(event: Event) -> Iterator[psycopg.Connection[Any]]:
    """Lock the row of an event: a publisher that assigns its position waits, and holds the publishers' lock."""
    with closing(psycopg.connect(parts.test_database_url())) as other:
        other.execute("SELECT 1 FROM workflows_event WHERE id = %s FOR UPDATE", [event.pk])
        yield other


def is_publishing() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s)",
            [positions.LOCK & 0xFFFFFFFF],
        )
        return bool(cursor.fetchone()[0])


@postgresql_only
def test_what_is_recorded_while_a_publisher_is_at_work_does_not_wait_for_it_and_is_published_by_it(
    nightly: Workflow,
) -> None:
    first = new_unpublished(new_run(nightly))
    with ThreadPoolExecutor(1) as pool, held(first) as other:
        publishing: Future[int] = pool.submit(closing_connections(publication.publish))
        until(is_publishing, within=30)

        others = [record(new_run(nightly)) for _ in range(3)]  # they return
        meanwhile = unpublished()
        other.rollback()

        assert publishing.result(timeout=60) == 4
    assert meanwhile == 4
    assert [Event.objects.get(pk=event.pk).position for event in (first, *others)] == [1, 2, 3, 4]


@postgresql_only
def test_a_publisher_that_dies_while_others_rely_on_it_leaves_their_events_to_the_next(nightly: Workflow) -> None:
    first = new_unpublished(new_run(nightly))
    with ThreadPoolExecutor(1) as pool, held(first) as other:
        publishing: Future[int] = pool.submit(closing_connections(publication.publish))
        until(is_publishing, within=30)
        second = record(new_run(nightly))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s",
                [positions.LOCK & 0xFFFFFFFF],
            )
        with pytest.raises(Exception, match="terminat"):
            publishing.result(timeout=60)
        other.rollback()

    third = record(new_run(nightly))

    assert [Event.objects.get(pk=event.pk).position for event in (first, second, third)] == [1, 2, 3]


def new_unpublished(run: Run) -> Event:
    """Return an event as a process leaves it that dies between commit and publication."""
    return Event.objects.create(run=run, seq=1, type="workflow.started", timestamp=run.created_at)
