"""From observations of task instances to the events of their tries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rest.times import iso as rest_iso
from workflows.lifecycle import exits
from workflows.models import Run
from workflows.tests.stage import at, story, task
from workflows.watch import observe
from workflows.watch.observation import Observation
from workflows.watch.tests.polls import data_of, polled

pytestmark = pytest.mark.django_db


def test_a_try_that_fails_with_more_to_come_is_retrying(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    polled(run, 7, None, task(run, "extract", "up_for_retry", start=2, end=6))
    polled(run, 9, None, task(run, "extract", "queued", tries=2, start=2, end=6))
    polled(run, 11, None, task(run, "extract", "running", tries=2, start=10))
    polled(run, 20, "success", task(run, "extract", "success", tries=2, start=10, end=15), start=1, end=16)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.retrying extract 1",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]


def test_a_failed_try_that_no_poll_saw_is_recorded_from_the_next_try(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)

    polled(run, 20, "success", task(run, "extract", "success", tries=2, start=10, end=15), start=1, end=16)

    assert story(run)[1:] == [
        "task.started extract 1",
        "task.retrying extract 1",
        "task.started extract 2",
        "task.completed extract 2",
        "workflow.completed",
    ]


def test_a_failed_try_that_no_poll_saw_is_recorded_also_while_the_next_one_waits(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)

    polled(run, 9, None, task(run, "extract", "scheduled", tries=2, start=2, end=6))

    assert story(run)[1:] == ["task.started extract 1", "task.retrying extract 1"]
    assert run.events.get(type="task.retrying").timestamp == at(6)


def pushed(run: Run, second: float, *tasks: Any) -> None:
    observe.observe(run.pk, Observation(at=at(second), tasks=tasks, pushed=True))


def test_a_rescheduled_try_counts_from_its_first_start_by_polls(run: Run) -> None:
    """Airflow 3.3.2 shows these times: each time the task goes on, its start moves."""
    polled(run, 5, "running", task(run, "extract", "up_for_reschedule", start=2, end=2.5), start=1)
    extract = run.tasks.get()
    assert (extract.started_at, extract.ended_at) == (at(2), None)
    polled(run, 7, None, task(run, "extract", "queued", start=2, end=2.5))
    polled(run, 8, None, task(run, "extract", "up_for_reschedule", start=7.5, end=7.75))
    polled(run, 13, None, task(run, "extract", "running", start=12, end=None))
    polled(run, 20, "success", task(run, "extract", "success", start=12, end=12.25), start=1, end=16)

    extract = run.tasks.get()
    assert (extract.started_at, extract.ended_at) == (at(2), at(12.25))
    assert data_of(run, "task.completed")["duration_s"] == 10.25
    assert extract.duration() == timedelta(seconds=10.25)
    assert data_of(run, "task.started")["started_at"] == rest_iso(at(2))


def test_a_rescheduled_try_counts_from_its_first_start_by_pushes_in_any_order(run: Run) -> None:
    polled(run, 5, "running", start=1)
    pushed(run, 5.5, task(run, "extract", "running", start=2))
    polled(run, 7, None, task(run, "extract", "scheduled", start=2, end=2.5))
    pushed(run, 9, task(run, "extract", "success", start=8, end=8.5))
    pushed(run, 9.5, task(run, "extract", "running", start=8))
    polled(run, 20, "success", task(run, "extract", "success", start=8, end=8.5), start=1, end=16)

    assert data_of(run, "task.completed")["duration_s"] == 6.5
    assert run.tasks.get().duration() == timedelta(seconds=6.5)


def test_a_further_try_counts_from_its_own_start(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    polled(run, 7, None, task(run, "extract", "up_for_retry", start=2, end=6))
    polled(run, 9, None, task(run, "extract", "queued", tries=2, start=2, end=6))
    waiting = run.tasks.get()
    polled(run, 11, None, task(run, "extract", "running", tries=2, start=10))
    polled(run, 20, "success", task(run, "extract", "success", tries=2, start=10, end=15), start=1, end=16)

    assert (waiting.started_at, waiting.ended_at) == (None, None)
    assert data_of(run, "task.completed")["duration_s"] == 5
    assert run.tasks.get().started_at == at(10)


def test_a_task_that_was_skipped_before_it_started_counts_from_its_real_start(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "skipped", start=3, end=3), start=1)
    polled(run, 7, None, task(run, "extract", "running", start=4))

    assert run.tasks.get().started_at == at(4)


@pytest.mark.parametrize("pause", ["deferred", "up_for_reschedule"])
def test_a_try_that_pauses_and_goes_on_starts_once(run: Run, pause: str) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), start=1)
    polled(run, 7, None, task(run, "extract", pause, start=2))
    polled(run, 9, None, task(run, "extract", "scheduled", start=2))
    polled(run, 11, None, task(run, "extract", "running", start=10))
    polled(run, 20, "success", task(run, "extract", "success", start=10, end=15), start=1, end=16)

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1", "workflow.completed"]


def test_an_end_before_the_start_by_another_machines_clock_is_still_recorded_after_it(run: Run) -> None:
    polled(run, 20, "failed", task(run, "extract", "failed", start=10, end=9), start=1, end=16)

    assert story(run)[1:] == ["task.started extract 1", "task.failed extract 1", "workflow.failed"]


def test_the_placeholder_of_a_mapped_task_that_becomes_its_first_instance_is_shown_as_that(run: Run) -> None:
    polled(run, 5, "running", task(run, "part", None, tries=0, id="a"), start=1)

    instances = [task(run, "part", "running", start=6, index=index, id=id) for index, id in ((0, "a"), (1, "b"))]
    polled(run, 8, "running", *instances, start=1)

    assert {task.map_index: task.state for task in run.tasks.filter(map_index__gte=0)} == {0: "running", 1: "running"}
    assert story(run)[-2:] == ["task.started part[0] 1", "task.started part[1] 1"]


def test_the_instances_of_a_mapped_task_are_kept_apart_and_replace_its_placeholder(run: Run) -> None:
    polled(run, 5, "running", task(run, "load", None, tries=0), start=1)
    mapped = [
        task(run, "load", "success", index=0, start=2, end=5),
        task(run, "load", "failed", index=1, start=3, end=6),
    ]
    polled(run, 12, "failed", *mapped, start=1, end=8)

    assert story(run)[1:] == [
        "task.started load[0] 1",
        "task.started load[1] 1",
        "task.completed load[0] 1",
        "task.failed load[1] 1",
        "workflow.failed",
    ]
    assert [str(instance) for instance in run.tasks.order_by("map_index")] == ["load[0]", "load[1]"]
    assert data_of(run, "workflow.failed")["failed_tasks"] == ["load[1]"]


@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_a_further_try_that_ends_before_it_has_a_process_did_not_start(run: Run, state: str) -> None:
    polled(run, 5, "running", task(run, "extract", "success", start=2, end=4), start=1)
    # Somebody clears it in Airflow, which shows the start of a try until the next one has begun.
    polled(run, 7, None, task(run, "extract", "queued", start=2, end=4))

    polled(run, 9, None, task(run, "extract", state, tries=2, start=2, end=8))

    assert story(run)[1:] == ["task.started extract 1", "task.completed extract 1", f"task.{state} extract 2"]
    assert data_of(run, f"task.{state}")["duration_s"] is None
    assert exits.missing(run.tasks.all()) == []


@pytest.mark.parametrize("first", ["failed", "skipped"])
@pytest.mark.parametrize("second", ["failed", "skipped"])
def test_two_tries_that_end_before_they_have_a_process_did_not_start(run: Run, first: str, second: str) -> None:
    polled(run, 5, "running", task(run, "extract", first, start=4, end=4), start=1)
    polled(run, 7, None, task(run, "extract", "queued", tries=2, start=4, end=4))

    polled(run, 9, None, task(run, "extract", second, tries=2, start=4, end=8))

    assert story(run)[1:] == [f"task.{first} extract 1", f"task.{second} extract 2"]
    assert run.events.latest("seq").data["duration_s"] is None
    assert exits.missing(run.tasks.all()) == []


def test_a_first_try_that_ends_without_a_process_after_a_skip_before_any_try_did_not_start(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "skipped", tries=0, start=4, end=4), start=1)

    polled(run, 9, None, task(run, "extract", "failed", tries=1, start=4, end=8))

    assert story(run)[1:] == ["task.skipped extract 0", "task.failed extract 1"]
    assert run.events.latest("seq").data["duration_s"] is None


def test_a_further_try_that_no_poll_saw_at_work_did_start(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "success", start=2, end=4), start=1)

    polled(run, 9, None, task(run, "extract", "failed", tries=2, start=7, end=8))

    assert story(run)[1:] == [
        "task.started extract 1",
        "task.completed extract 1",
        "task.started extract 2",
        "task.failed extract 2",
    ]
    assert [str(one) for one in exits.missing(run.tasks.all())] == ["extract"]
