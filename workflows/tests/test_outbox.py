"""Publication: each committed event gets its position once, in an order that nothing joins later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from typing import Any
from uuid import UUID

import pytest
import redis
from django.db import connection, transaction
from pytest_django import Settings

from workflows import events, outbox
from workflows.airflow.tests.scripted import unused_port
from workflows.models import Event, LogHead, Run, Workflow
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, EACH, PUBLISHERS = 8, 10, 3
PACE = 0.01  # seconds between two turns of a loop that would else leave SQLite's lock to nobody


@pytest.fixture
def run(nightly: Workflow) -> Run:
    return new_run(nightly)


def record(run: Run | None, second: float = 0) -> Event:
    """An event in a transaction of its own, published after its commit."""
    with transaction.atomic():
        data = events.WorkflowStarted(state="running", attempt=1, started_at=at(second).isoformat())
        return events.record(data, now=at(second), run=run)


def record_unpublished(run: Run) -> None:
    """As if the process had died between commit and publication."""
    with transaction.atomic():
        record(run)
        transaction.get_connection().run_on_commit.clear()


def positions() -> list[int | None]:
    return list(Event.objects.order_by("id").values_list("position", flat=True))


def test_an_event_is_published_after_its_commit_and_not_before(run: Run) -> None:
    with transaction.atomic():
        record(run)
        assert positions() == [None]

    assert (positions(), outbox.head()) == ([1], 1)


def test_an_event_of_a_change_that_is_rolled_back_is_none(run: Run) -> None:
    with transaction.atomic():
        record(run)
        transaction.set_rollback(True)

    assert (positions(), outbox.head()) == ([], 0)
    run.refresh_from_db()
    assert run.event_count == 0


def test_an_event_outside_of_a_transaction_is_refused(run: Run) -> None:
    with pytest.raises(RuntimeError, match="must share the transaction"):
        events.record(events.AirflowUp(version="3"), now=NOW)

    assert positions() == []


def test_what_a_crash_left_unpublished_is_published_next_time(run: Run) -> None:
    record_unpublished(run)
    assert positions() == [None]

    record(run)

    assert positions() == [1, 2]


def test_publishing_again_changes_nothing(run: Run) -> None:
    record(run)

    assert outbox.publish() == 0

    assert (positions(), outbox.head()) == ([1], 1)


def test_more_than_one_batch_is_published_whole(run: Run) -> None:
    rows = [Event(run=run, seq=n, type="workflow.started", timestamp=NOW) for n in range(1, outbox.BATCH + 8)]
    Event.objects.bulk_create(rows)

    assert outbox.publish() == outbox.BATCH + 7

    assert positions() == list(range(1, outbox.BATCH + 8))
    assert [event.position for event in outbox.read_after(outbox.BATCH)] == list(range(501, 508))


def test_the_envelope_has_one_shape(run: Run, nightly: Workflow) -> None:
    record(run, 5)

    [published] = outbox.read_after(0)

    assert json.loads(published.frame) == {
        "id": 1,
        "seq": 1,
        "type": "workflow.started",
        "workflow_id": nightly.pk,
        "run_id": str(run.pk),
        "task_id": None,
        "user_id": run.user_id,
        "timestamp": "2026-03-01T12:00:05Z",
        "data": {"state": "running", "attempt": 1, "started_at": "2026-03-01T12:00:05+00:00"},
    }


def test_an_event_that_has_no_position_has_no_frame(run: Run) -> None:
    record_unpublished(run)

    with pytest.raises(ValueError, match="only a published event"):
        outbox.as_published(Event.objects.get())


def test_a_sink_is_called_in_the_transaction_of_the_event(run: Run, settings: Settings) -> None:
    settings.EVENT_SINKS = [f"{__name__}.refusing_sink"]

    with pytest.raises(RuntimeError, match=r"^workflow\.started$"):
        record(run)

    assert positions() == []


def refusing_sink(event: Event) -> None:
    raise RuntimeError(event.type)


# --- Redis is a hint ------------------------------------------------------------------------------------------


@pytest.fixture
def wakes(redis_server: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(outbox.CHANNEL)
        while subscription.get_message(timeout=0.2) is None and not subscription.subscribed:
            continue
        yield subscription


def test_the_wake_up_carries_the_encoded_event(run: Run, wakes: Any) -> None:
    record(run)

    message = None
    while message is None:
        message = wakes.get_message(timeout=5)
    assert outbox.parse_wake(message["data"]) == outbox.read_after(0)


@pytest.fixture
def _no_redis(settings: Settings) -> Iterator[None]:
    outbox._redis.cache_clear()
    with unused_port() as port:
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        yield
    outbox._redis.cache_clear()


@pytest.mark.usefixtures("_no_redis")
def test_without_redis_an_event_is_published_all_the_same(run: Run) -> None:
    record(run)

    assert positions() == [1]


# --- Many at once ---------------------------------------------------------------------------------------------


def closing(work: Any) -> Any:
    """`work` for a thread: it closes the thread's own connection to the database."""

    def run_and_close(*args: Any) -> Any:
        try:
            return work(*args)
        finally:
            connection.close()

    return run_and_close


def test_with_many_writers_and_publishers_followers_miss_nothing_and_nothing_comes_behind_them(
    nightly: Workflow,
) -> None:
    runs = [new_run(nightly) for _ in range(WRITERS // 2)]
    done = Flag()

    def write(number: int) -> None:
        for _ in range(EACH):
            record(runs[number % len(runs)])

    def publish() -> None:
        while not done.wait(PACE):
            outbox.publish()

    def follow() -> list[int]:
        cursor, seen = 0, []
        while not (last := done.wait(PACE)) or outbox.head() > cursor:
            page = outbox.read_after(cursor, limit=7)
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
            outbox.publish()
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
