"""A result that Airflow gives quickly is in the event of the end itself."""

from __future__ import annotations

from typing import Any

import pytest

from workflows import gateway
from workflows.airflow.tests.scripted import Reply
from workflows.dispatch.tests.steps import waiting
from workflows.models import Run, RunResult, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, dag_run, new_run, task
from workflows.watch import push, results
from workflows.watch.apply import apply
from workflows.watch.tests.test_counts import pushed_run, pushed_task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(nightly: Workflow) -> Run:
    nightly.result_task = "load"
    nightly.save()
    return new_run(nightly, RunState.RUNNING, started_at=at(1))


def polled_to_its_end(airflow: StagedAirflow, *runs: Run, second: float = 10) -> None:
    for run in runs:
        airflow.put(run, "success", start=1, end=9)
        airflow.put_task(run, "load", "success", start=2, end=8)
    seen = [dag_run(run, "success", start=1, end=9) for run in runs]
    tasks = [task(run, "load", "success", start=2, end=8) for run in runs]
    apply(gateway.client_of(DEFAULT), runs=seen, tasks=tasks, at=at(second))


def reads(airflow: StagedAirflow) -> int:
    return sum("xcomEntries" in path for _, path in airflow.calls)


def completed(run: Run) -> Any:
    return run.events.get(type="workflow.completed").data["result"]


def test_the_end_carries_a_result_that_is_there(airflow: StagedAirflow, run: Run) -> None:
    airflow.put_result(run, "load", {"rows": 3})

    polled_to_its_end(airflow, run)

    assert (completed(run)["state"], completed(run)["value"], completed(run)["size"]) == ("ready", {"rows": 3}, 10)
    assert (waiting(), RunResult.objects.get().value) == ([], {"rows": 3})
    assert not run.events.filter(type="workflow.result").exists()


def test_a_pushed_end_carries_it_too(airflow: StagedAirflow, run: Run) -> None:
    airflow.put(run, "success", start=1, end=9)
    airflow.put_task(run, "load", "success", start=2, end=8)
    airflow.put_result(run, "load", "done")

    push.receive(DEFAULT, [pushed_run(run, "success", end=9)], now=at(20))

    assert (completed(run)["value"], reads(airflow)) == ("done", 1)


def test_an_end_that_was_seen_is_not_asked_about_again(airflow: StagedAirflow, run: Run) -> None:
    airflow.put_result(run, "load", 1)
    polled_to_its_end(airflow, run)

    polled_to_its_end(airflow, run, second=12)

    assert reads(airflow) == 1


@pytest.mark.parametrize("answer", [Reply(503), Reply(403, {"detail": "Forbidden"}), Reply(404, {"detail": "no"})])
def test_the_end_is_recorded_without_a_result_that_is_not_there(
    airflow: StagedAirflow, run: Run, answer: Reply
) -> None:
    path = f"/dags/etl/dagRuns/{run.dag_run_id}/taskInstances/load/xcomEntries/return_value"
    airflow.answers["GET", path] = lambda _: answer

    polled_to_its_end(airflow, run)

    assert (completed(run)["state"], waiting()) == ("pending", ["result"])


def test_an_airflow_behind_an_open_breaker_is_not_asked(airflow: StagedAirflow, run: Run) -> None:
    gateway.breaker(DEFAULT).open()

    polled_to_its_end(airflow, run)

    gateway.breaker(DEFAULT).close()
    assert (reads(airflow), completed(run)["state"]) == (0, "pending")


def test_the_ends_of_many_runs_do_not_wait_for_all_their_results(airflow: StagedAirflow, run: Run) -> None:
    runs = [run, *(new_run(run.workflow, RunState.RUNNING, started_at=at(1)) for _ in range(30))]
    for one in runs:
        airflow.put_result(one, "load", 1)

    polled_to_its_end(airflow, *runs)

    states = [completed(one)["state"] for one in runs]
    assert (states.count("ready"), states.count("pending")) == (results.MOST, 31 - results.MOST)
    assert len(waiting()) == 31 - results.MOST


def test_a_push_of_something_else_asks_for_no_result(airflow: StagedAirflow, run: Run) -> None:
    push.receive(DEFAULT, [pushed_task(run, "running")], now=at(20))

    assert reads(airflow) == 0
