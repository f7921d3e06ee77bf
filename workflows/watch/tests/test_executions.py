"""Executions of a task that only Airflow's id tells apart, and states that no Airflow of today has."""

from __future__ import annotations

from typing import Any

import pytest

from workflows.models import Run
from workflows.tests.stage import at, task
from workflows.watch import observe
from workflows.watch.observation import Observation
from workflows.watch.tests.polls import everything, polled, stopping

pytestmark = pytest.mark.django_db


def recorded(run: Run) -> list[tuple[str, int, str | None]]:
    """Return the events of tasks: the type, the try, and Airflow's id of the execution."""
    of_tasks = run.events.exclude(task_id="").order_by("seq")
    return [(event.type, event.data["try_number"], event.data["instance_id"]) for event in of_tasks]


def rows(run: Run) -> list[tuple[str, int, str]]:
    return [(task.state, task.try_number, task.instance_id) for task in run.tasks.order_by("id")]


def pushed(run: Run, second: float, *tasks: Any) -> Run:
    observe.observe(run.pk, Observation(at=at(second), tasks=tasks, pushed=True))
    run.refresh_from_db()
    return run


def test_two_passes_of_a_loop_are_two_rows_and_each_is_recorded_once(run: Run) -> None:
    first = task(run, "extract", "success", start=2, end=4, id="id-1")
    polled(run, 5, "running", task(run, "extract", "running", start=2, id="id-1"), start=1)
    polled(run, 7, "running", first, task(run, "extract", "running", start=5, id="id-2"), start=1)
    second = task(run, "extract", "success", start=5, end=8, id="id-2")
    polled(run, 10, "running", second, first, start=1)
    before = everything(run)
    polled(run, 12, "running", first, second, start=1)
    polled(run, 14, "running", second, start=1)

    assert recorded(run) == [
        ("task.started", 1, "id-1"),
        ("task.completed", 1, "id-1"),
        ("task.started", 1, "id-2"),
        ("task.completed", 1, "id-2"),
    ]
    assert rows(run) == [("success", 1, "id-1"), ("success", 1, "id-2")]
    assert everything(run) == before


def test_passes_that_run_at_the_same_time_do_not_take_each_others_rows(run: Run) -> None:
    both = [task(run, "extract", "running", start=second, id=f"id-{second}") for second in (2, 3)]
    polled(run, 5, "running", *both, start=1)
    polled(run, 7, "running", task(run, "extract", "failed", start=2, end=6, id="id-2"), start=1)
    polled(run, 9, "running", task(run, "extract", "success", start=3, end=8, id="id-3"), start=1)

    assert rows(run) == [("failed", 1, "id-2"), ("success", 1, "id-3")]
    assert [kind for kind, *_ in recorded(run)] == ["task.started", "task.started", "task.failed", "task.completed"]


def test_a_pass_that_replaces_the_one_before_is_recorded_too(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "success", start=2, end=4, id="id-1"), start=1)
    second = task(run, "extract", "success", start=5, end=8, id="id-2")
    polled(run, 12, "success", second, start=1, end=11)

    assert recorded(run) == [
        ("task.started", 1, "id-1"),
        ("task.completed", 1, "id-1"),
        ("task.started", 1, "id-2"),
        ("task.completed", 1, "id-2"),
    ]
    assert rows(run) == [("success", 1, "id-2")]  # Airflow has only this one


def test_a_retry_stays_one_row_though_airflow_gives_it_a_new_id_before_its_number(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2, id="id-1"), start=1)
    waiting = task(run, "extract", "up_for_retry", start=2, end=6, id="id-2")
    polled(run, 7, "running", waiting, start=1)
    polled(run, 8, "running", waiting, start=1)
    polled(run, 9, "running", task(run, "extract", "queued", tries=2, start=2, end=6, id="id-2"), start=1)
    polled(run, 11, "running", task(run, "extract", "success", tries=2, start=9, end=10, id="id-2"), start=1)

    assert recorded(run) == [
        ("task.started", 1, "id-1"),
        ("task.retrying", 1, "id-1"),
        ("task.started", 2, "id-2"),
        ("task.completed", 2, "id-2"),
    ]
    assert rows(run) == [("success", 2, "id-2")]


def test_a_retry_that_no_poll_saw_in_between_stays_one_row(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2, id="id-1"), start=1)
    polled(run, 11, "running", task(run, "extract", "running", tries=2, start=9, id="id-2"), start=1)

    assert recorded(run) == [("task.started", 1, "id-1"), ("task.retrying", 1, "id-1"), ("task.started", 2, "id-2")]
    assert rows(run) == [("running", 2, "id-2")]


def test_a_cleared_task_stays_one_row(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "success", start=2, end=4, id="id-1"), start=1)
    polled(run, 7, "running", task(run, "extract", None, start=2, end=4, id="id-2"), start=1)
    assert rows(run) == [("", 1, "id-1")]  # until it has a new try
    polled(run, 9, "running", task(run, "extract", "success", tries=2, start=7, end=8, id="id-2"), start=1)

    assert [(kind, tries) for kind, tries, _ in recorded(run)] == [
        ("task.started", 1),
        ("task.completed", 1),
        ("task.started", 2),
        ("task.completed", 2),
    ]
    assert rows(run) == [("success", 2, "id-2")]


@pytest.mark.parametrize(("state", "event"), [("success", "task.completed"), ("upstream_failed", "task.skipped")])
def test_a_task_that_is_cleared_and_ends_without_a_start_stays_one_row(run: Run, state: str, event: str) -> None:
    polled(run, 5, "running", task(run, "extract", "failed", start=2, end=4, id="id-1"), start=1)
    marked = task(run, "extract", state, start=2, end=7, id="id-2")
    polled(run, 9, "running", marked, start=1)
    polled(run, 11, "running", marked, start=1)

    assert [kind for kind, *_ in recorded(run)] == ["task.started", "task.failed", event]
    assert rows(run) == [(state, 1, "id-1")]


def test_a_late_push_of_an_execution_that_was_replaced_changes_nothing(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2, id="id-1"), start=1)
    polled(run, 11, "running", task(run, "extract", "running", tries=2, start=9, id="id-2"), start=1)
    before = everything(run)

    pushed(run, 12, task(run, "extract", "up_for_retry", start=2, end=6, id="id-1"))

    assert everything(run) == before


def test_a_push_without_an_id_and_a_poll_with_one_are_one_execution(run: Run) -> None:
    polled(run, 3, "running", start=1)
    pushed(run, 5, task(run, "extract", "running", start=2))
    polled(run, 6, "running", task(run, "extract", "running", start=2, id="id-1"), start=1)
    pushed(run, 7, task(run, "extract", "running", tries=2, start=6))
    polled(run, 9, "running", task(run, "extract", "success", tries=2, start=6, end=8, id="id-2"), start=1)

    assert [(kind, tries) for kind, tries, _ in recorded(run)] == [
        ("task.started", 1),
        ("task.retrying", 1),
        ("task.started", 2),
        ("task.completed", 2),
    ]
    assert [(state, tries) for state, tries, _ in rows(run)] == [("success", 2)]


def test_an_execution_whose_row_another_one_took_is_not_recorded_again(run: Run) -> None:
    first = task(run, "extract", "success", start=2, end=4, id="id-1")
    polled(run, 5, "running", first, start=1)
    second = task(run, "extract", "success", tries=2, start=7, end=8, id="id-2")
    polled(run, 9, "running", second, start=1)  # looks like a retry
    polled(run, 12, "success", first, second, start=1, end=11)

    assert recorded(run) == [
        ("task.started", 1, "id-1"),
        ("task.completed", 1, "id-1"),
        ("task.started", 2, "id-2"),
        ("task.completed", 2, "id-2"),
    ]
    assert sorted(rows(run)) == [("success", 1, "id-1"), ("success", 2, "id-2")]


def test_a_task_that_is_skipped_again_after_a_clear_is_recorded_again(run: Run) -> None:
    polled(run, 5, "running", task(run, "load", "skipped", tries=0, id="id-1"), start=1)
    polled(run, 7, "running", task(run, "load", "skipped", tries=0, id="id-1"), start=1)
    polled(run, 9, "running", task(run, "load", "skipped", tries=0, id="id-2"), start=1)

    assert recorded(run) == [("task.skipped", 0, "id-1"), ("task.skipped", 0, "id-2")]
    assert rows(run) == [("skipped", 0, "id-2")]


UNKNOWN = "hibernating_" + "z" * 300


def test_an_unknown_state_is_kept_as_it_is_and_the_start_and_the_end_are_recorded(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "hibernating", start=2, id="id-1"), start=1)
    assert rows(run) == [("hibernating", 1, "id-1")]
    polled(run, 12, "success", task(run, "extract", "success", start=2, end=10, id="id-1"), start=1, end=11)

    assert recorded(run) == [("task.started", 1, "id-1"), ("task.completed", 1, "id-1")]
    assert run.state == "success"


def test_an_unknown_state_of_any_length_can_be_stored(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", UNKNOWN, start=2), start=1)
    before = everything(run)
    polled(run, 7, "running", task(run, "extract", UNKNOWN, start=2), start=1)

    assert [state for state, *_ in rows(run)] == [UNKNOWN[:250]]
    assert everything(run) == before


def test_a_run_ends_at_once_though_a_task_ended_in_an_unknown_state(run: Run) -> None:
    polled(run, 12, "success", task(run, "extract", "evaporated", start=2, end=10), start=1, end=11)

    assert (run.state, run.ended_at) == ("success", at(11))


def test_a_stop_is_complete_though_a_task_ended_in_an_unknown_state(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    stopping(run)
    polled(run, 60, "failed", task(run, "extract", "evaporated", start=2, end=10), start=1, end=11)

    assert run.state == "stopped"


def test_an_unknown_state_of_a_run_moves_it_only_when_it_has_started(run: Run) -> None:
    polled(run, 5, "reserved")
    assert run.state == "queued"
    polled(run, 7, "suspended", start=6)
    assert (run.state, run.started_at) == ("running", at(6))
    polled(run, 9, "suspended", start=6)

    assert [event.type for event in run.events.all()] == ["workflow.started"]


@pytest.mark.parametrize("instance_id", ["id-1", None])
def test_a_push_may_show_one_execution_several_times(run: Run, instance_id: str | None) -> None:
    polled(run, 3, "running", start=1)
    started = task(run, "extract", "running", start=2, id=instance_id)

    pushed(run, 5, started, task(run, "extract", "success", start=2, end=4, id=instance_id))

    assert recorded(run) == [("task.started", 1, instance_id), ("task.completed", 1, instance_id)]
    assert rows(run) == [("success", 1, instance_id or "")]
