"""The checks of the chaos find what they are for."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.chaos.accepted import Accepted
from tests.chaos.history import DOWN, UP, contradictions, outages, stopped_periods, untold
from tests.chaos.journal import AFTERMATH, Fault, Journal
from workflows.models import Event, Run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOUND = [
    ("workflow.triggered", {}),
    ("workflow.started", {}),
    ("task.started", {"try_number": 1}),
    ("task.retrying", {"try_number": 1}),
    ("task.started", {"try_number": 2}),
    ("task.failed", {"try_number": 2}),
    ("workflow.failed", {}),
    ("workflow.retried", {}),
    ("workflow.started", {}),
    ("task.started", {"try_number": 3}),
    ("task.completed", {"try_number": 3}),
    ("workflow.completed", {}),
]


def history(*recorded: tuple[str, dict[str, Any]], state: str = "success") -> tuple[Run, list[Event]]:
    run = Run(pk=uuid.uuid4(), state=state, dag_run_id="one")
    events = [
        Event(
            seq=number,
            type=kind,
            task_id="extract" if kind.startswith("task.") else "",
            timestamp=NOON + timedelta(seconds=number),
            data={"map_index": -1, "state": "", **data},
        )
        for number, (kind, data) in enumerate(recorded, start=1)
    ]
    return run, events


def promises(run: Run, events: list[Event], accepted: Accepted | None = None) -> list[str]:
    return [found.promise for found in contradictions(run, events, accepted or Accepted())]


def test_a_sound_history_has_no_contradiction() -> None:
    assert promises(*history(*SOUND)) == []


def test_a_gap_in_seq_is_found() -> None:
    run, events = history(*SOUND)
    events[3].seq = 40

    assert promises(run, events) == ["seq has no gaps"]


@pytest.mark.parametrize(
    ("index", "again", "promise"),
    [
        (6, ("task.failed", {"try_number": 2}), "each start and each end once"),
        (6, ("task.completed", {"try_number": 2}), "each start and each end once"),
        (3, ("task.started", {"try_number": 1}), "each start and each end once"),
        (7, ("task.skipped", {"try_number": 0}), "the end of a run comes last"),
        (12, ("workflow.paused", {}), "the end of a run comes last"),
    ],
)
def test_an_event_too_many_is_found(index: int, again: tuple[str, dict[str, Any]], promise: str) -> None:
    assert promises(*history(*SOUND[:index], again, *SOUND[index:])) == [promise]


def test_a_start_behind_its_end_is_found() -> None:
    swapped = [*SOUND[:2], SOUND[3], SOUND[2], *SOUND[4:]]

    assert promises(*history(*swapped)) == ["no end before its start"]


def test_an_ended_run_without_an_end_is_found() -> None:
    assert promises(*history(*SOUND[:-1])) == ["an ended run has its end in the log"]


def test_a_task_that_somebody_marked_may_end_again() -> None:
    accepted = Accepted()
    with accepted.change("one", "mark task", "extract"):
        pass

    assert promises(*history(*SOUND, ("task.failed", {"try_number": 3})), accepted) == []


def test_a_run_that_somebody_marked_allows_one_more_end_and_not_two() -> None:
    accepted = Accepted()
    with accepted.change("one", "mark"):
        pass
    again = ("task.failed", {"try_number": 3})

    assert promises(*history(*SOUND[:-1], again, SOUND[-1]), accepted) == []
    assert promises(*history(*SOUND[:-1], again, again, SOUND[-1]), accepted) == ["each start and each end once"]


TALK: list[tuple[str, dict[str, Any]]] = [
    ("task.started", {"try_number": 1, "instance_id": "a"}),
    ("task.awaiting_input", {"try_number": 1, "instance_id": "a"}),
    ("task.input_received", {"try_number": 1, "instance_id": "a"}),
    ("task.completed", {"try_number": 1, "instance_id": "a"}),
]


@pytest.mark.parametrize(
    ("order", "is_sound"),
    [
        ((0, 1, 2, 3), True),
        ((0, 1, 3), True),  # nobody answered in time
        ((0, 3), True),
        ((0, 2, 1, 3), False),
        ((0, 2, 3), False),
        ((0, 1, 3, 2), False),
        ((0, 3, 1, 2), False),
        ((0, 1, 1, 2, 3), False),
        ((0, 1, 2, 2, 3), False),
    ],
)
def test_a_question_and_its_answer_are_told_once_before_the_end(order: tuple[int, ...], is_sound: bool) -> None:
    talk = [SOUND[0], SOUND[1], *(TALK[step] for step in order), SOUND[-1]]

    found = promises(*history(*talk))

    assert found == ([] if is_sound else ["a question comes before its answer and its end"])


@pytest.mark.parametrize("answered", [None, "2026-01-01T12:00:03Z"])
@pytest.mark.parametrize("told", [0, 1, 2])
def test_a_question_or_an_answer_that_is_not_told_is_found(told: int, answered: str | None) -> None:
    run, events = history(SOUND[0], SOUND[1], TALK[0], *TALK[1 : 1 + told], TALK[3], SOUND[-1])
    asked = {"a": {"task_instance": {"task_id": "extract"}, "responded_at": answered}}

    missing = ["a question is told"] * (told < 1) + ["an answer is told"] * (told < 2 and answered is not None)
    assert [found.promise for found in untold(run, events, asked)] == missing


def test_a_run_is_stopped_until_it_is_retried() -> None:
    run, events = history(("workflow.triggered", {}), ("workflow.stopped", {}), ("workflow.retried", {}))

    periods = list(stopped_periods(run, events, Accepted()))

    assert periods == [(NOON + timedelta(seconds=2), NOON + timedelta(seconds=3))]


@pytest.mark.parametrize(
    ("target", "status", "airflow", "explained"),
    [
        ("postgres", 500, "airflow", True),
        ("postgres", 500, "north", True),
        ("airflow-api", 503, "airflow", True),
        ("airflow-api", 503, "north", False),
        ("to north", 503, "north", True),
        ("to north", 503, "airflow", False),
        ("airflow-api", 500, "airflow", False),
        ("beat", 503, "airflow", False),
    ],
)
def test_an_error_needs_a_fault_that_can_cause_it(target: str, status: int, airflow: str, explained: bool) -> None:
    journal = Journal(faults=[Fault("kill -9", target, began=100, ended=110)])
    journal.note("product", "GET /runs", status=status, begun=105, airflow=airflow)

    assert (journal.unexplained() == []) is explained


def test_an_error_long_after_the_last_fault_has_no_cause() -> None:
    journal = Journal()
    journal.note("product", "GET /runs", status=503)
    ended = journal.entries[0].moment - AFTERMATH - 1
    journal.faults.append(Fault("kill -9", "postgres", began=ended - 5, ended=ended))

    assert journal.unexplained() == journal.entries


def outage_events(*told: tuple[str, str]) -> list[Event]:
    return [
        Event(type=kind, timestamp=datetime.now(UTC), data={"airflow": name, "reason": "refused"})
        for kind, name in told
    ]


def test_outages_of_two_airflows_are_told_apart() -> None:
    events = outage_events((DOWN, "default"), (DOWN, "north"), (UP, "default"), (UP, "north"), (DOWN, "default"))

    assert list(outages(events, lambda event: True)) == []


@pytest.mark.parametrize("kind", [DOWN, UP])
def test_an_outage_that_is_told_twice_is_found(kind: str) -> None:
    events = outage_events((kind, "default"), (kind, "north"), (kind, "default"))

    found = list(outages(events, lambda event: True))

    assert [one.detail for one in found] == [f"{kind} of default again"]


@pytest.mark.parametrize(
    ("target", "airflow", "explained"),
    [
        ("north-api", "north", True),
        ("to north", "north", True),
        ("airflow-api", "north", False),
        ("to north", "airflow", False),
        ("north-scheduler", "north", False),
        ("worker", "north", True),
    ],
)
def test_an_outage_needs_a_fault_of_its_own_airflow(target: str, airflow: str, explained: bool) -> None:
    journal = Journal()
    with journal.fault("freeze", target):
        pass

    found = list(
        outages(outage_events((DOWN, "north")), lambda event: journal.explains_outage(event.timestamp, airflow))
    )

    assert [one.promise for one in found] == ([] if explained else ["an outage is of the Airflow that is down"])
