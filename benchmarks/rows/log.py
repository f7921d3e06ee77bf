"""Events: recorded, published, and deleted when they are old, beside bare statements."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from statistics import quantiles
from threading import Event as Flag
from typing import Any

from django.db import connection, connections, transaction
from django.test import override_settings
from django.utils import timezone

from benchmarks.table.row import CPU, Prepare, Row, Work, at_most, ratio
from benchmarks.table.stage import Stage
from notifications import rules
from notifications.models import NotificationConfig, Subscription
from workflows import retention
from workflows.eventlog import events
from workflows.models import Run

INSERT = (
    "INSERT INTO workflows_event (run_id, seq, workflow_id, user_id, type, task_id, timestamp, data)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
)
DATA = '{"state": "success", "map_index": -1, "try_number": 1, "instance_id": null, "duration_s": 1.0}'
WRITERS = 8
CONFIGS = 2000
OLD = 20_000  # events that retention deletes
AGE = timedelta(days=200)


def _record(run: Run, count: int) -> None:
    for number in range(count):
        with transaction.atomic():
            events.record(_event(number), now=timezone.now(), run=run, task_id="work")


def _event(number: int) -> events.TaskCompleted:
    return events.TaskCompleted(state="success", map_index=-1, try_number=number, duration_s=1.0)


def _insert(run: Run, count: int) -> None:
    """The least that would do: a transaction with one INSERT of a row of the same size."""
    for number in range(count):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(INSERT, _row(run, number, timezone.now()))


def _row(run: Run, number: int, at: datetime) -> list[Any]:
    return [run.pk, number + 1, run.workflow_id, run.user_id, "task.completed", "work", at, DATA]


def _one_by_one(write: Callable[[Run, int], None]) -> Prepare:
    def prepare(stage: Stage) -> Work:
        run = stage.active_runs(1)[0]
        return lambda: write(run, stage.many)

    return prepare


def _by_many(write: Callable[[Run, int], None], writers: int = WRITERS) -> Prepare:
    """Return the preparation of writers in threads, each for a run of its own. The figure is ms per event."""

    def prepare(stage: Stage) -> Work:
        runs = stage.active_runs(writers)

        def one(run: Run) -> None:
            try:
                write(run, stage.many // writers)
            finally:
                connections.close_all()

        def work() -> None:
            with ThreadPoolExecutor(writers) as pool:
                list(pool.map(one, runs))

        return work

    return prepare


def _in_a_batch(stage: Stage) -> Work:
    run = stage.active_runs(1)[0]
    now = timezone.now()
    entries = [events.Entry(data=_event(number), now=now, run=run, task_id="work") for number in range(stage.many)]

    def work() -> None:
        with transaction.atomic():
            events.record_all(entries)

    return work


def _insert_in_a_batch(stage: Stage) -> Work:
    run = stage.active_runs(1)[0]
    now = timezone.now()

    def work() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(INSERT, [_row(run, number, now) for number in range(stage.many)])

    return work


def _with_configs(count: int) -> Prepare:
    """Return the preparation of events beside configs that subscribe to them, for other workflows."""

    def prepare(stage: Stage) -> Work:
        owner = stage.user("ada")
        configs = NotificationConfig.objects.bulk_create(
            NotificationConfig(
                name=f"Config {number}", channel="webhook", owner=owner, filters={"workflows": [number + 1]}
            )
            for number in range(stage.size(count, count // 20))
        )
        Subscription.objects.bulk_create(
            Subscription(config=config, type="task.completed", subject=subject)
            for config in configs
            for subject in rules.subjects(config.filters)
        )
        run = stage.active_runs(1)[0]

        def work() -> None:
            _record(run, stage.many)

        return work

    return prepare


# --- Retention ----------------------------------------------------------------------------------------------


def _old_events(stage: Stage) -> int:
    """Insert events that are too old, at the beginning of the log. Return how many."""
    run = stage.active_runs(1)[0]
    count = stage.size(OLD, 2000)
    old = (timezone.now() - AGE).isoformat()
    fixed = f"{run.workflow_id}\t{run.user_id}\ttask.completed\twork\t{old}\t{DATA}"
    lines = (f"{number}\t{run.pk}\t{number}\t{fixed}\n" for number in range(1, count + 1))
    columns = "position, run_id, seq, workflow_id, user_id, type, task_id, timestamp, data"
    with connection.cursor() as cursor, cursor.copy(f"COPY workflows_event ({columns}) FROM STDIN") as copy:
        copy.write("".join(lines))
    return count


def _retention(stage: Stage) -> Work:
    """The figure is µs per event."""
    count = _old_events(stage)

    def work() -> float:
        began = time.perf_counter()
        assert _clean() == count
        return (time.perf_counter() - began) / count * 1e6

    return work


def _clean() -> int:
    with override_settings(KEEP_EVENTS_DAYS=150, KEEP_RUNS_DAYS=0):
        return retention.clean(now=timezone.now())["events"]


def _bare_delete(stage: Stage) -> Work:
    """One DELETE in transactions of a thousand rows."""
    count = _old_events(stage)

    def work() -> float:
        began = time.perf_counter()
        for last in range(1000, count + 1000, 1000):
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM workflows_event WHERE position <= %s", [last])
        return (time.perf_counter() - began) / count * 1e6

    return work


def _writer(beside: Callable[[], object] | None) -> Prepare:
    """Return the preparation of a writer, alone or beside something. The figure is its p95 in ms."""

    def prepare(stage: Stage) -> Work:
        _old_events(stage)
        run = stage.active_runs(1)[0]

        def work() -> float:
            begun, ended = Flag(), Flag()
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(_other, beside, begun)
                begun.wait(30)
                taken = _taken(run, other if beside else None)
                ended.set()
                other.result()
            return quantiles(taken, n=20)[18] * 1000

        return work

    return prepare


def _other(beside: Callable[[], object] | None, begun: Flag) -> None:
    try:
        begun.set()
        if beside:
            beside()
    finally:
        connections.close_all()


def _taken(run: Run, other: Future[None] | None) -> Sequence[float]:
    """Return the seconds of each event that is recorded until the other one has ended, or of fifty."""
    taken: list[float] = []
    while len(taken) < 50 or (other is not None and not other.done()):
        began = time.perf_counter()
        _record(run, 1)
        taken.append(time.perf_counter() - began)
    return taken


ROWS = [
    Row(
        name="record and publish an event, 1 writer",
        goals=(ratio(at_most=2),),
        subject=_one_by_one(_record),
        peer=_one_by_one(_insert),
        peer_name="a bare INSERT in a transaction",
        many=100,
        counted=5,
        seen="12.7 times",
    ),
    Row(
        name=f"record and publish an event, {WRITERS} writers",
        goals=(ratio(at_most=2),),
        subject=_by_many(_record),
        peer=_by_many(_insert),
        peer_name=f"bare INSERTs by {WRITERS}",
        many=160,
        counts=False,
        seen="19 times",
    ),
    Row(
        name=f"{WRITERS} writers instead of one, per event",
        goals=(ratio(at_most=1),),
        subject=_by_many(_record),
        peer=_by_many(_record, 1),
        peer_name="1 writer",
        many=160,
        counts=False,
        seen="1.6 times",
    ),
    Row(
        name="record and publish 100 events in a batch, per event",
        goals=(at_most(1, CPU), ratio(at_most=2)),
        subject=_in_a_batch,
        peer=_insert_in_a_batch,
        peer_name="bare INSERTs in one transaction",
        many=100,
        counted=100,
        seen="4 to 18 ms CPU",
    ),
    Row(
        name=f"an event with {CONFIGS:,} notification configs for others",
        goals=(ratio(CPU, at_most=1.3),),
        subject=_with_configs(CONFIGS),
        peer=_with_configs(0),
        peer_name="without configs",
        many=20,
        counted=2,
        seen="118 ms CPU against 10",
    ),
    Row(
        name="retention of old events, per event",
        goals=(ratio(at_most=2),),
        subject=_retention,
        peer=_bare_delete,
        peer_name="bare DELETEs of a thousand",
        unit="µs",
        seen="4 times",
    ),
    Row(
        name="a writer beside retention, p95",
        goals=(ratio(at_most=1.2),),
        subject=_writer(_clean),
        peer=_writer(None),
        peer_name="without retention",
        counts=False,
        rounds=5,
        seen="3.9 times",
    ),
]
