"""A stop ends the run in Airflow, or takes back its trigger."""

from __future__ import annotations

import pytest

from accounts.models import User
from workflows import services
from workflows.airflow.tests.scripted import HangUp
from workflows.dispatch.tests.steps import TRIGGER, dispatch_pending, refreshed, trigger, waiting
from workflows.models import Airflow, AirflowCommand, Run, Workflow
from workflows.tests.stage import StagedAirflow, story

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_stopped_before_its_dispatch_never_reaches_airflow(
    airflow: StagedAirflow, pending: AirflowCommand, ada: User
) -> None:
    run = services.stop_run(run=Run.objects.get(), actor=ada, note="wrong one")

    assert (run.state, run.state_reason) == ("stopped", "stopped by ada: wrong one")
    assert (story(run), waiting(), airflow.writes) == (["workflow.triggered", "workflow.stopped"], [], [])
    assert run.events.get(type="workflow.stopped").data == {
        "state": "stopped",
        "attempt": 1,
        "airflow": "default",
        "by": "ada",
        "note": "wrong one",
        "reason": "stopped by ada: wrong one",
    }


@pytest.mark.parametrize("done", [True, False], ids=["answer lost", "request lost"])
def test_a_run_stopped_while_it_is_unknown_whether_airflow_has_it_ends_there_too(
    airflow: StagedAirflow, nightly: Workflow, ada: User, done: bool
) -> None:
    airflow.next_api_calls.append(HangUp(after_doing_it=done))
    run = trigger(nightly)
    Airflow.objects.update(reachable=True)
    services.stop_run(run=run, actor=ada)

    while waiting() and dispatch_pending():
        continue

    assert airflow.calls.count(TRIGGER) == 1
    assert [run["state"] for run in airflow.runs.values()] == (["failed"] if done else [])
    assert (refreshed(run).state, waiting()) == ("stopping" if done else "stopped", [])


def test_a_run_stopped_after_its_dispatch_is_ended_in_airflow(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = services.stop_run(run=trigger(nightly), actor=ada)

    assert (run.state, waiting()) == ("stopping", [])
    assert airflow.marked == [(run.dag_run_id, "failed")]


def test_a_stop_survives_a_lost_answer(airflow: StagedAirflow, nightly: Workflow, ada: User) -> None:
    run = trigger(nightly)
    airflow.next_api_calls.append(HangUp(after_doing_it=True))
    services.stop_run(run=run, actor=ada)
    assert (refreshed(run).state, waiting()) == ("stopping", ["stop"])

    dispatch_pending()

    assert (waiting(), airflow.runs[run.dag_id, run.dag_run_id]["state"]) == ([], "failed")


def test_a_run_that_airflow_does_not_have_any_more_is_stopped(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    run = trigger(nightly)
    airflow.runs.clear()

    run = services.stop_run(run=run, actor=ada)

    assert (run.state, story(run)) == ("stopped", ["workflow.triggered", "workflow.stopped"])


def test_a_second_stop_is_refused_and_changes_nothing(airflow: StagedAirflow, nightly: Workflow, ada: User) -> None:
    run = services.stop_run(run=trigger(nightly), actor=ada)

    with pytest.raises(services.WrongStateError, match=r"^A run that is stopping cannot be stopped\.$") as refused:
        services.stop_run(run=run, actor=ada)

    assert refused.value.extra["state"] == "stopping"
    assert AirflowCommand.objects.filter(kind="stop").count() == 1
    assert len(airflow.marked) == 1
