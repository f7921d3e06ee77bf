"""Recording batches: one INSERT, `seq` without gaps in each run, the sinks once, one publication after the commit."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from workflows.eventlog import events, publication
from workflows.eventlog.events import Entry
from workflows.eventlog.tests.test_publication import closing
from workflows.models import Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run

pytestmark = pytest.mark.django_db(transaction=True)

WRITERS, ROUNDS = 4, 15


def started(run: Run | None, second: float = 0) -> Entry:
    data = events.WorkflowStarted(airflow=DEFAULT, state=RunState.RUNNING, attempt=1, started_at=at(second))
    return Entry(data=data, now=at(second), run=run)


def record_all(*entries: Entry) -> list[Event]:
    with transaction.atomic():
        return events.record_all(entries)


def log() -> list[tuple[int | None, object, int | None]]:
    return list(Event.objects.order_by("position").values_list("position", "run", "seq"))


def test_a_batch_numbers_the_events_of_each_run_in_the_order_of_the_entries(nightly: Workflow) -> None:
    one, two = new_run(nightly), new_run(nightly)
    record_all(started(one))
    system = Entry(data=events.AirflowUp(airflow=DEFAULT, version="3"), now=NOW)

    made = record_all(started(one), started(two), system, started(one), started(two))

    expected = [(1, one.pk, 1), (2, one.pk, 2), (3, two.pk, 1), (4, None, None), (5, one.pk, 3), (6, two.pk, 2)]
    assert log() == expected
    assert [event.seq for event in made] == [2, 1, None, 3, 2]
    assert (one.event_count, two.event_count) == (3, 2)
    assert list(Run.objects.order_by("event_count").values_list("event_count", flat=True)) == [2, 3]


def test_two_objects_of_one_run_share_its_numbers(nightly: Workflow) -> None:
    run = new_run(nightly)
    same = Run.objects.get(pk=run.pk)

    record_all(started(run), started(same))

    assert log() == [(1, run.pk, 1), (2, run.pk, 2)]
    assert run.event_count == same.event_count == 2


@pytest.mark.parametrize(
    ("runs", "each", "statements"),
    [
        (0, 1, ["INSERT"]),
        (1, 1, ["UPDATE", "INSERT"]),
        (1, 300, ["UPDATE", "INSERT"]),
        (1, 501, ["UPDATE", "INSERT", "INSERT"]),
        (40, 5, ["SELECT", "UPDATE", "INSERT"]),  # the SELECT locks the runs in order
    ],
)
def test_what_a_batch_costs_does_not_grow_with_it(
    nightly: Workflow, runs: int, each: int, statements: list[str]
) -> None:
    rows: list[Run | None] = [new_run(nightly) for _ in range(runs)] or [None]
    entries = [started(run) for run in rows for _ in range(each)]

    with transaction.atomic(), CaptureQueriesContext(connection) as seen:
        events.record_all(entries)

    assert [query["sql"].split()[0] for query in seen] == statements


def test_an_empty_batch_does_nothing() -> None:
    with transaction.atomic(), CaptureQueriesContext(connection) as seen:
        assert events.record_all([]) == []
        assert transaction.get_connection().run_on_commit == []

    assert len(seen) == 0


def test_a_batch_outside_of_a_transaction_is_refused(nightly: Workflow) -> None:
    with pytest.raises(RuntimeError, match="must share the transaction"):
        events.record_all([started(new_run(nightly))])

    assert log() == []


def test_a_run_that_is_gone_refuses_the_whole_batch(nightly: Workflow) -> None:
    kept, gone = new_run(nightly), new_run(nightly)
    Run.objects.filter(pk=gone.pk).delete()

    with pytest.raises(Run.DoesNotExist):
        record_all(started(kept), started(gone))

    assert log() == []
    assert Run.objects.get().event_count == 0


CALLS: list[list[int | None]] = []


def noting_sink(recorded: Sequence[Event]) -> None:
    assert connection.in_atomic_block
    assert all(event.pk for event in recorded)
    CALLS.append([event.seq for event in recorded])


def test_a_sink_gets_the_stored_events_of_a_batch_in_one_call(nightly: Workflow, settings: Settings) -> None:
    settings.EVENT_SINKS = [f"{__name__}.noting_sink"]
    CALLS.clear()
    run = new_run(nightly)

    record_all(started(run), started(run), started(run))

    assert CALLS == [[1, 2, 3]]


# --- One publication for each transaction -----------------------------------------------------------------------


def scheduled() -> int:
    return len(transaction.get_connection().run_on_commit)


def test_a_transaction_publishes_once_however_often_it_records(nightly: Workflow) -> None:
    run = new_run(nightly)
    with transaction.atomic():
        events.record_all([started(run)])
        with transaction.atomic():
            events.record_all([started(run), started(run)])
        events.record_all([started(run)])
        assert scheduled() == 1

    assert [position for position, _, _ in log()] == [1, 2, 3, 4]


@pytest.mark.parametrize("first_is_rolled_back", [True, False])
@pytest.mark.parametrize("second_is_rolled_back", [True, False])
def test_what_a_savepoint_keeps_is_published(
    nightly: Workflow, first_is_rolled_back: bool, second_is_rolled_back: bool
) -> None:
    run = new_run(nightly)
    with transaction.atomic():
        for is_rolled_back in (first_is_rolled_back, second_is_rolled_back):
            with transaction.atomic():
                events.record_all([started(run)])
                transaction.set_rollback(is_rolled_back)

    kept = [first_is_rolled_back, second_is_rolled_back].count(False)
    assert log() == [(number, run.pk, number) for number in range(1, kept + 1)]
    assert publication.head() == kept


def test_an_event_after_a_savepoint_that_was_rolled_back_is_published(nightly: Workflow) -> None:
    run = new_run(nightly)
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                events.record_all([started(run)])
            transaction.set_rollback(True)
        events.record_all([started(run)])

    assert log() == [(1, run.pk, 1)]


# --- Many at once -----------------------------------------------------------------------------------------------


def test_batches_over_the_same_runs_do_not_wait_for_each_other_for_ever(nightly: Workflow) -> None:
    """Each writer names the runs in another order. Without an order of the locks PostgreSQL ends one as a deadlock."""
    runs = [new_run(nightly) for _ in range(WRITERS)]
    begin = Barrier(WRITERS)

    def write(number: int) -> None:
        begin.wait(60)
        mine = runs[number:] + runs[:number]
        for _ in range(ROUNDS):
            record_all(*[started(run) for run in mine])

    with ThreadPoolExecutor(WRITERS) as pool:
        for writing in [pool.submit(closing(write), number) for number in range(WRITERS)]:
            writing.result(timeout=120)

    assert publication.head() == WRITERS * ROUNDS * len(runs)
    for run in runs:
        seqs = list(Event.objects.filter(run=run).order_by("position").values_list("seq", flat=True))
        assert seqs == list(range(1, WRITERS * ROUNDS + 1))
