"""A run that somebody started in Airflow becomes ours, by a push or by a poll."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from accounts.models import User
from tests.live.conftest import new_run, new_workflow
from tests.live.parts import Web
from tests.live.pushes import (
    events_of,
    everything,
    poll_airflow,
    polled_run,
    polled_task,
    push,
    pushed_run,
    shows,
)
from workflows.airflow.tests.scripted import ScriptedAirflow, run_json
from workflows.models import Event, Run, TriggerType, Workflow
from workflows.states import RunState


def outside(dag_id: str, name: str, airflow: ScriptedAirflow | None = None) -> Run:
    """Return a run that only Airflow knows. `airflow` answers when it is asked for the run."""
    if airflow:
        airflow.runs[dag_id, name] = run_json(dag_id, name, state="running", conf={"rows": 3}, note="by hand")
    return Run(dag_id=dag_id, dag_run_id=name)


def test_a_run_of_our_dag_started_in_airflow_is_adopted_as_external(
    web: Web, airflow: ScriptedAirflow, workflow: Workflow
) -> None:
    theirs = outside(workflow.dag.dag_id, "manual__1", airflow)

    push(web, pushed_run(theirs, "running"))

    run = Run.objects.get(dag_run_id="manual__1", workflow=workflow)
    assert (run.trigger_type, run.user, run.state) == (TriggerType.EXTERNAL, None, RunState.RUNNING)
    assert (run.parameters, run.note) == ({"rows": 3}, "by hand")
    assert events_of(run) == [("workflow.triggered", ""), ("workflow.started", "")]
    data = Event.objects.filter(run=run)[0].data
    assert (data["trigger_type"], data["note"]) == ("external", "by hand")


def test_a_run_of_another_dag_and_an_ended_run_are_not_adopted(
    web: Web, airflow: ScriptedAirflow, workflow: Workflow
) -> None:
    before = everything()

    push(web, pushed_run(outside("somebody_elses", "manual__2"), "running"))
    push(web, pushed_run(outside(workflow.dag.dag_id, "manual__3"), "success", end=4))

    assert everything() == before


def test_a_run_that_several_workers_see_at_once_is_adopted_once(
    webs: list[Web], airflow: ScriptedAirflow, ada: User
) -> None:
    workflow = new_workflow(ada)
    with ThreadPoolExecutor(8) as workers:
        for number in range(5):
            theirs = outside(workflow.dag.dag_id, f"manual__at_once_{number}", airflow)
            jobs = [workers.submit(push, web, pushed_run(theirs, "running")) for web in webs * 3]
            for job in jobs:
                job.result(20)

    runs = Run.objects.filter(workflow=workflow)
    assert sorted(runs.values_list("dag_run_id", flat=True)) == [f"manual__at_once_{number}" for number in range(5)]
    assert [events_of(run) for run in runs] == [[("workflow.triggered", ""), ("workflow.started", "")]] * 5


def test_a_poll_adopts_a_run_that_was_not_pushed(airflow: ScriptedAirflow, workflow: Workflow) -> None:
    theirs = outside(workflow.dag.dag_id, "manual__seen")
    shows(airflow, [polled_run(theirs, "running")], [polled_task(theirs, "extract", "running", start=2)])

    poll_airflow()
    poll_airflow()

    run = Run.objects.get(dag_run_id="manual__seen")
    assert events_of(run) == [("workflow.triggered", ""), ("workflow.started", ""), ("task.started", "extract")]


def test_a_run_of_ours_under_another_dag_id_is_not_touched(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    other = new_run(new_workflow(run.workflow.owner))
    before = everything()

    push(web, pushed_run(outside(other.dag_id, run.dag_run_id), "success", end=4))

    assert everything() == before
