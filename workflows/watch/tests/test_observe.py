"""From observations of Airflow to the states and events of a run; repeats and older observations change nothing."""

from __future__ import annotations

import pytest

from workflows.dispatch import commands
from workflows.models import Airflow, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, at, dag_run, new_run, story, task
from workflows.watch import observe, poll
from workflows.watch.observation import Observation
from workflows.watch.tests.polls import completed, data_of, everything, polled

pytestmark = pytest.mark.django_db


def test_a_run_that_is_observed_queued_is_only_confirmed(run: Run) -> None:
    polled(run, 1, "queued", task(run, "extract", None, tries=0))

    assert (run.state, run.observed_at, story(run)) == ("queued", at(1), [])
    assert run.tasks.get().state == ""


def test_a_pending_run_that_is_found_in_airflow_was_dispatched(nightly: Workflow) -> None:
    run = new_run(nightly, RunState.PENDING)

    polled(run, 1, "queued")

    assert (run.state, run.queued_at, story(run)) == ("queued", NOW, [])


def test_a_run_starts_when_airflow_says_so(run: Run) -> None:
    polled(run, 5, "running", start=1)

    assert (run.state, run.started_at, story(run)) == ("running", at(1), ["workflow.started"])
    event = run.events.get()
    assert event.timestamp == at(1)
    assert event.data == {"state": "running", "attempt": 1, "airflow": "default", "started_at": "2026-03-01T12:00:01Z"}


@pytest.mark.parametrize("state", ["running", "success"])
def test_a_run_that_ended_and_was_cleared_between_two_looks_has_the_later_start(run: Run, state: str) -> None:
    polled(run, 5, "running", start=1)

    polled(run, 12, state, start=8, end=11 if state == "success" else None)

    assert run.started_at == at(8)
    if state == "success":
        assert data_of(run, "workflow.completed")["duration_s"] == 3
    late = Observation(at=at(13), run=dag_run(run, "running", start=1), pushed=True)
    observe.observe(run.pk, late)
    run.refresh_from_db()
    assert run.started_at == at(8)


@pytest.mark.parametrize(("last", "kind"), [("success", "workflow.completed"), ("failed", "workflow.failed")])
@pytest.mark.parametrize("dispatched", [True, False])
def test_a_run_that_was_marked_in_airflow_before_it_started_ends_without_a_start(
    nightly: Workflow, last: str, kind: str, dispatched: bool
) -> None:
    run = new_run(nightly, RunState.QUEUED if dispatched else RunState.PENDING)

    polled(run, 40, last, task(run, "extract", "skipped", tries=0, start=11, end=11), start=None, end=11)

    assert story(run) == ["task.skipped extract 0", kind]
    assert (run.state, run.started_at, run.ended_at) == (last, None, at(11))
    assert data_of(run, kind)["duration_s"] is None


@pytest.mark.parametrize("last", ["running", "success"])
@pytest.mark.parametrize("committed", [1, 4])
def test_a_poll_corrects_a_start_that_was_pushed_before_airflow_committed_it(
    run: Run, last: str, committed: int
) -> None:
    observe.observe(run.pk, Observation(at=at(3), run=dag_run(run, "running", start=2), pushed=True))

    polled(run, 12, last, start=committed, end=11 if last == "success" else None)

    assert run.started_at == at(committed)
    if last == "success":
        assert data_of(run, "workflow.completed")["duration_s"] == 11 - committed


@pytest.mark.parametrize(("start", "end"), [(2, 14), (1, 11), (2, 11)])
def test_a_poll_corrects_the_times_of_an_ended_run_that_were_pushed_before_airflow_committed_them(
    airflow: StagedAirflow, run: Run, start: int, end: int
) -> None:
    pushed = dag_run(run, "success", start=2, end=12)
    observe.observe(run.pk, Observation(at=at(12), run=pushed, all_tasks=True, pushed=True))
    before = story(run)
    airflow.put(run, "success", start=start, end=end)
    Airflow.default()
    Airflow.objects.update(swept_at=at(0))

    for second in (20, 22):
        assert poll.tick(DEFAULT, now=at(second))

    run.refresh_from_db()
    assert (run.state, run.started_at, run.ended_at) == ("success", at(start), at(end))
    assert story(run) == before
    lists_of_tasks = [path for method, path in airflow.calls if "taskInstances" in path and run.dag_run_id in path]
    assert len(lists_of_tasks) == 1


def test_tasks_start_and_end_between_the_start_and_the_end_of_their_run(run: Run) -> None:
    polled(run, 5, "running", task(run, "extract", "running", start=2), task(run, "load", None, tries=0), start=1)
    extracted = task(run, "extract", "success", start=2, end=6)
    polled(run, 8, "running", extracted, task(run, "load", "running", start=7), start=1)
    polled(run, 12, "success", extracted, task(run, "load", "success", start=7, end=10), start=1, end=11)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.completed extract 1",
        "task.started load 1",
        "task.completed load 1",
        "workflow.completed",
    ]
    assert (run.state, run.started_at, run.ended_at, run.state_reason) == ("success", at(1), at(11), "")
    assert [event.timestamp for event in run.events.order_by("seq")] == [at(s) for s in (1, 2, 6, 7, 10, 11)]
    assert data_of(run, "workflow.completed") == {
        "state": "success",
        "attempt": 1,
        "airflow": "default",
        "duration_s": 10.0,
        "result": None,
    }
    assert run.events.filter(type="task.completed", task_id="load").get().data == {
        "state": "success",
        "map_index": -1,
        "try_number": 1,
        "instance_id": None,
        "duration_s": 3.0,
    }


def test_a_run_that_came_and_went_between_two_polls_is_recorded_in_order(run: Run) -> None:
    tasks = [
        task(run, "load", "success", start=5, end=8),
        task(run, "extract", "success", start=2, end=4),
    ]
    polled(run, 12, "success", *tasks, start=1, end=9)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.completed extract 1",
        "task.started load 1",
        "task.completed load 1",
        "workflow.completed",
    ]
    assert [event.data.get("state") for event in run.events.order_by("seq")] == [
        "running", "running", "success", "running", "success", "success",
    ]  # fmt: skip


def test_a_failed_run_names_the_tasks_that_failed(run: Run) -> None:
    tasks = [
        task(run, "transform", "failed", start=4, end=6),
        task(run, "extract", "failed", start=2, end=3),
        task(run, "load", "upstream_failed", tries=0, start=7, end=7),
    ]
    polled(run, 12, "failed", *tasks, start=1, end=8)

    assert story(run) == [
        "workflow.started",
        "task.started extract 1",
        "task.failed extract 1",
        "task.started transform 1",
        "task.failed transform 1",
        "task.skipped load 0",
        "workflow.failed",
    ]
    assert (run.state, run.state_reason) == ("failed", "failed in Airflow: extract, transform")
    assert data_of(run, "workflow.failed") == {
        "state": "failed",
        "attempt": 1,
        "airflow": "default",
        "reason": "failed in Airflow: extract, transform",
        "failed_tasks": ["extract", "transform"],
        "duration_s": 7.0,
    }
    assert data_of(run, "task.skipped")["state"] == "upstream_failed"


def test_the_end_of_a_run_waits_until_all_its_tasks_have_been_read(run: Run) -> None:
    polled(run, 5, "running", start=1)

    polled(run, 12, "success", whole=False, start=1, end=11)

    assert (run.state, story(run)) == ("running", ["workflow.started"])


@pytest.mark.parametrize("state", ["running", "up_for_retry", "failed"])
def test_a_task_that_started_is_not_recorded_before_its_run(run: Run, state: str) -> None:
    polled(run, 5, None, task(run, "extract", state, start=2, end=3))
    assert (story(run), run.tasks.count()) == ([], 0)

    polled(run, 7, "running", task(run, "extract", "running", start=2), start=1)

    assert story(run) == ["workflow.started", "task.started extract 1"]


def test_the_same_poll_again_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    polled(run, 12, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)
    polled(run, 14, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)

    assert everything(run) == before


def test_a_repeated_poll_of_a_running_run_changes_nothing(run: Run) -> None:
    seen = task(run, "extract", "running", start=2)
    polled(run, 5, "running", seen, start=1)
    before = everything(run)

    polled(run, 7, "running", seen, start=1)

    assert everything(run) == before
    assert run.observed_at == at(7)


def test_an_older_observation_than_the_last_changes_nothing(run: Run) -> None:
    completed(run)
    before = everything(run)

    polled(run, 8, "running", task(run, "extract", "running", start=2), start=1)

    assert everything(run) == before
    assert run.observed_at == at(12)


def test_an_observation_from_before_the_dispatch_of_a_retry_changes_nothing(run: Run) -> None:
    completed(run)
    Run.objects.move(run.pk, to=RunState.QUEUED, attempt=2)
    commands.record_clear(run, commands.TaskSelection(), now=at(20))
    before = everything(run)

    polled(run, 21, "success", task(run, "extract", "success", start=2, end=10), start=1, end=11)

    assert everything(run) == before
    assert run.state == "queued"
