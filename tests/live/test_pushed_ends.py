"""The end of a run that is pushed: recorded at once if the end of each of its tasks was pushed too."""

from __future__ import annotations

from django.utils.dateparse import parse_datetime

from tests.live.conftest import new_run
from tests.live.parts import Web
from tests.live.pushes import (
    at,
    events_of,
    poll_airflow,
    polled_run,
    polled_task,
    push,
    pushed_run,
    pushed_task,
    shows,
)
from workflows.airflow.tests.scripted import Reply, ScriptedAirflow
from workflows.models import Dag, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import dag_task


def of_dag(run: Run, *task_ids: str) -> None:
    """Give the DAG of this run these tasks."""
    Dag.objects.filter(dag_id=run.dag_id).update(tasks=[dag_task(task_id) for task_id in task_ids])


def reads_of(airflow: ScriptedAirflow, run: Run) -> int:
    """Return how often the tasks of this run were read from Airflow."""
    return airflow.calls.count(("GET", f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"))


def test_an_end_is_recorded_without_asking_airflow_if_the_end_of_each_task_was_pushed(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract", "load")
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "success", start=2, end=3))
    push(web, pushed_task(run, "load", "failed", start=4, end=5))
    push(web, pushed_run(run, "failed", end=6))

    assert reads_of(airflow, run) == 0
    run.refresh_from_db()
    assert (run.state, run.ended_at) == (RunState.FAILED, parse_datetime(at(6)))
    assert events_of(run)[-2:] == [("task.failed", "load"), ("workflow.failed", "")]
    assert run.events.get(type="workflow.failed").data["failed_tasks"] == ["load"]

    before = events_of(run)
    shows(
        airflow,
        [polled_run(run, "failed", end=6)],
        [polled_task(run, "extract", "success", start=2, end=3), polled_task(run, "load", "failed", start=4, end=5)],
    )
    poll_airflow()
    assert events_of(run) == before


def test_an_end_waits_for_the_tasks_whose_end_was_not_pushed(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    of_dag(run, "extract", "load")
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "success", start=2, end=3))
    tasks = [
        polled_task(run, "extract", "success", start=2, end=3),
        polled_task(run, "load", "skipped", start=3, end=3),
    ]
    shows(airflow, [polled_run(run, "success", end=4)], tasks)
    push(web, pushed_run(run, "success", end=4))

    assert reads_of(airflow, run) == 1
    assert events_of(run)[-2:] == [("task.skipped", "load"), ("workflow.completed", "")]


def test_records_pushed_together_with_an_end_that_waits_are_recorded_though_airflow_does_not_answer(
    web: Web, airflow: ScriptedAirflow, run: Run, workflow: Workflow
) -> None:
    of_dag(run, "extract", "load")
    other = new_run(workflow)
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
    airflow.answers["GET", path] = lambda _request: Reply(503, {"detail": "not now"})
    push(
        web,
        pushed_run(run, "running"),
        pushed_task(run, "extract", "success", start=2, end=3),
        pushed_run(run, "success", end=4),
        pushed_run(other, "running"),
    )

    assert reads_of(airflow, run) == 1
    assert events_of(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    assert events_of(other) == [("workflow.started", "")]


def test_the_end_of_a_retry_is_not_judged_by_the_tasks_of_the_attempt_before(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract")
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "failed", start=2, end=3))
    Run.objects.filter(pk=run.pk).update(attempt=2)
    again = polled_task(run, "extract", "success", start=5, end=6) | {"try_number": 2}
    shows(airflow, [polled_run(run, "success", end=7)], [again])
    push(web, pushed_run(run, "success", end=7))

    assert reads_of(airflow, run) == 1
    assert events_of(run)[-2:] == [("task.completed", "extract"), ("workflow.completed", "")]


def test_a_run_that_is_stopping_has_not_ended_only_because_the_ends_of_its_tasks_were_pushed(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract")
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "failed", start=2, end=3))
    Run.objects.filter(pk=run.pk).update(state=RunState.STOPPING, stop_requested_at=at(3))
    shows(airflow, [polled_run(run, "failed", end=4)], [polled_task(run, "extract", "failed", start=2, end=3)])
    push(web, pushed_run(run, "failed", end=4))

    assert reads_of(airflow, run) == 1
    run.refresh_from_db()
    assert (run.state, run.ended_at) == (RunState.STOPPING, parse_datetime(at(4)))
    assert events_of(run)[-1] == ("task.failed", "extract")
