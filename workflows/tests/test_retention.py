"""Retention: what is too old goes, in batches, and the log is cut only at its beginning."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from workflows import retention
from workflows.eventlog import publication
from workflows.models import AirflowCommand, CommandKind, Event, LogHead, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import NOW, new_run

pytestmark = pytest.mark.django_db(transaction=True)

OLD = NOW - timedelta(days=100)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(retention, "BATCH", 10)
    settings.KEEP_EVENTS_DAYS = settings.KEEP_RUNS_DAYS = settings.KEEP_COMMANDS_DAYS = 90


def fill(run: Run, old: int, young: int) -> None:
    moments = [OLD] * old + [NOW] * young
    Event.objects.bulk_create(
        Event(run=run, workflow=run.workflow, seq=seq, type="workflow.started", timestamp=moment)
        for seq, moment in enumerate(moments, 1)
    )
    publication.publish()


def positions() -> list[int | None]:
    return list(Event.objects.order_by("position").values_list("position", flat=True))


@pytest.mark.parametrize(
    ("old", "young"),
    [(0, 0), (0, 3), (1, 0), (9, 3), (10, 3), (11, 3), (35, 1), (30, 0)],
)
def test_the_log_is_cut_up_to_the_first_event_that_is_kept(nightly: Workflow, old: int, young: int) -> None:
    fill(new_run(nightly), old, young)

    assert retention.clean(now=NOW)["events"] == old

    assert positions() == list(range(old + 1, old + young + 1))
    assert publication.head() == old + young
    assert retention.clean(now=NOW)["events"] == 0


def test_a_client_below_the_cut_is_refused_and_one_at_the_cut_goes_on(nightly: Workflow) -> None:
    fill(new_run(nightly), 25, 5)

    retention.clean(now=NOW)

    assert LogHead.objects.get().cut_at == 25
    assert publication.why_not_from(24) == "events after the cursor are no longer kept"
    assert publication.why_not_from(25) == ""
    assert [event.position for event in publication.read_after(25)] == [26, 27, 28, 29, 30]


def test_an_old_event_behind_a_young_one_stays(nightly: Workflow) -> None:
    run = new_run(nightly)
    fill(run, 3, 1)
    Event.objects.create(run=run, seq=5, type="workflow.started", timestamp=OLD)
    publication.publish()

    retention.clean(now=NOW)

    assert positions() == [4, 5]


def test_an_event_without_a_position_is_kept(nightly: Workflow) -> None:
    run = new_run(nightly)
    fill(run, 2, 0)
    Event.objects.create(run=run, seq=3, type="workflow.started", timestamp=OLD)

    retention.clean(now=NOW)

    assert positions() == [None]


def test_a_retention_of_zero_days_keeps_everything(nightly: Workflow, settings: Settings) -> None:
    settings.KEEP_EVENTS_DAYS = settings.KEEP_RUNS_DAYS = 0
    run = new_run(nightly, state=RunState.SUCCESS, ended_at=OLD)
    fill(run, 3, 0)

    assert retention.clean(now=NOW) == {"events": 0, "runs": 0, "commands": 0, "idempotency_keys": 0}

    assert positions() == [1, 2, 3]
    assert Run.objects.filter(pk=run.pk).exists()


def test_an_ended_run_goes_once_its_events_are_gone(nightly: Workflow) -> None:
    ended = [new_run(nightly, state=RunState.SUCCESS, ended_at=OLD) for _ in range(12)]
    running, young = new_run(nightly), new_run(nightly, state=RunState.FAILED, ended_at=NOW)
    with_young_event = new_run(nightly, state=RunState.SUCCESS, ended_at=OLD)
    fill(ended[0], 15, 0)
    fill(with_young_event, 1, 1)

    assert retention.clean(now=NOW)["runs"] == 12

    assert set(Run.objects.values_list("pk", flat=True)) == {running.pk, young.pk, with_young_event.pk}


def test_finished_commands_go_in_batches(nightly: Workflow) -> None:
    run = new_run(nightly)
    for finished in (*[OLD] * 21, NOW):
        AirflowCommand.objects.create(
            kind=CommandKind.TRIGGER, run=run, created_at=OLD, due_at=OLD, finished_at=finished
        )

    assert retention.clean(now=NOW)["commands"] == 21

    assert AirflowCommand.objects.get().finished_at == NOW


@pytest.mark.parametrize(("old", "batches"), [(10, 1), (40, 4)])
def test_a_batch_of_the_log_is_read_by_nobody(nightly: Workflow, old: int, batches: int) -> None:
    """Only its limits are in the statements: no row of it comes to Python, and no statement names one."""
    fill(new_run(nightly), old, 1)

    with CaptureQueriesContext(connection) as seen:
        retention.clean(now=NOW)

    deletes = [query["sql"] for query in seen if query["sql"].startswith("DELETE FROM workflows_event")]
    assert len(deletes) == batches
    assert not [sql for sql in deletes if " IN " in sql]
    # Where the batch ends, the mark, begin and commit, what refers to the events, and the events.
    assert len(seen) <= 8 + 6 * batches


def test_a_gap_in_the_positions_costs_no_batches(nightly: Workflow) -> None:
    run = new_run(nightly)
    fill(run, 5, 0)
    LogHead.objects.update(position=1_000_000)
    Event.objects.create(run=run, seq=6, type="workflow.started", timestamp=NOW)
    publication.publish()

    with CaptureQueriesContext(connection) as seen:
        assert retention.clean(now=NOW)["events"] == 5

    assert len(seen) <= 8 + 6
    assert positions() == [1_000_001]


class Interruption(BaseException):
    pass


@pytest.mark.parametrize("statement", range(1, 15))
def test_a_cleanup_that_ends_before_any_statement_is_finished_by_the_next(nightly: Workflow, statement: int) -> None:
    fill(new_run(nightly), 25, 2)

    def interrupt(execute, sql, params, many, context):  # type: ignore[no-untyped-def] # Django's own shape
        nonlocal statement
        statement -= 1
        if statement == 0:
            raise Interruption
        return execute(sql, params, many, context)

    with pytest.raises(Interruption), connection.execute_wrapper(interrupt):
        retention.clean(now=NOW)

    cut_at = LogHead.objects.get().cut_at
    left = positions()
    assert left == list(range(28 - len(left), 28))  # no hole
    assert all(position is not None and position <= cut_at for position in range(1, 28 - len(left)))

    retention.clean(now=NOW)

    assert positions() == [26, 27]
    assert LogHead.objects.get().cut_at == 25


def test_whatever_refers_to_an_event_is_deleted_with_it() -> None:
    """Retention deletes rows that refer to events. One that should outlive them would need another treatment."""
    assert [relation.on_delete for relation in Event._meta.related_objects] == [models.CASCADE]


def test_a_batch_that_is_slower_than_the_quickest_is_followed_by_a_pause_as_long_as_its_delay() -> None:
    moments: Iterator[float] = iter([0, 1, 10, 13, 20, 21, 30, 50])
    pauses: list[float] = []
    pace = retention.Pace(clock=lambda: next(moments), sleep=pauses.append)

    for _ in range(4):
        with pace.batch():
            pass

    assert pauses == [retention.LONGEST_PAUSE, retention.LONGEST_PAUSE]


def test_short_delays_are_paused_exactly() -> None:
    moments: Iterator[float] = iter([0, 0.25, 1, 1.5, 2, 2.25])
    pauses: list[float] = []
    pace = retention.Pace(clock=lambda: next(moments), sleep=pauses.append)

    for _ in range(3):
        with pace.batch():
            pass

    assert pauses == [0.25]
