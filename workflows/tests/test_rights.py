"""What Airflow refuses SVOps' user for one DAG is shown on that DAG, and is no outage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from workflows import explain, gateway, services
from workflows.airflow.tests.scripted import Reply
from workflows.dispatch.tests.steps import dispatch_pending, refreshed, trigger, waiting
from workflows.models import Airflow, AirflowCommand, Dag, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, log, new_run, story
from workflows.watch import dags, poll

pytestmark = pytest.mark.django_db(transaction=True)
RUNS = ("POST", "/dags/etl/dagRuns")


def refuse(airflow: StagedAirflow, method: str, path: str) -> None:
    airflow.answers[method, path] = lambda _: Reply(403, {"detail": "Forbidden"})


def test_a_dag_that_may_not_be_run_fails_the_run_says_so_and_is_no_outage(
    airflow: StagedAirflow, nightly: Workflow, ada: User, as_user: Callable[[User], APIClient]
) -> None:
    refuse(airflow, *RUNS)

    run = trigger(nightly)

    reason = "Could not dispatch the run to Airflow: SVOps' user in Airflow may not run the DAG etl (Forbidden)"
    assert (run.state, run.state_reason, waiting()) == ("failed", reason, [])
    assert log() == ["workflow.triggered", "dag.synced", "workflow.failed"]
    assert (Airflow.default().reachable, gateway.breaker(DEFAULT).fail_counter) == (True, 0)
    shown = as_user(ada).get("/api/v1/dags/etl").json()
    assert (shown["refused"], shown["refused_reason"]) == (["run"], "SVOps' user in Airflow may not run this DAG.")


def test_a_refusal_is_taken_back_when_the_same_has_worked(airflow: StagedAirflow, nightly: Workflow) -> None:
    refuse(airflow, *RUNS)
    trigger(nightly)
    trigger(nightly)
    assert Dag.objects.get().refused == ["run"]
    del airflow.answers[RUNS]

    run = trigger(Workflow.objects.select_related("dag").get())

    assert (run.state, Dag.objects.get().refused, Dag.objects.get().refused_reason) == ("queued", [], "")
    assert log().count("dag.synced") == 2


def test_credentials_that_are_refused_hold_the_run_and_are_an_outage(airflow: StagedAirflow, nightly: Workflow) -> None:
    refuse(airflow, *RUNS)
    refuse(airflow, "GET", "/dags")

    run = trigger(nightly)

    assert (run.state, waiting(), Dag.objects.get().refused) == ("pending", ["trigger"], [])
    assert log() == ["workflow.triggered", "system.airflow_down"]


def test_a_stop_that_is_refused_is_tried_until_it_works(airflow: StagedAirflow, nightly: Workflow, ada: User) -> None:
    run = trigger(nightly)
    refuse(airflow, "PATCH", f"/dags/etl/dagRuns/{run.dag_run_id}")

    services.stop_run(run=run, actor=ada)

    assert (refreshed(run).state, waiting(), Dag.objects.get().refused) == ("stopping", ["stop"], ["stop"])
    error = "SVOps' user in Airflow may not stop runs of the DAG etl (Forbidden)"
    assert AirflowCommand.objects.get(kind="stop").last_error == error
    airflow.answers.clear()
    dispatch_pending()
    assert (waiting(), airflow.marked, Dag.objects.get().refused) == ([], [(run.dag_run_id, "failed")], [])


def test_a_dag_that_is_hidden_from_our_user_is_not_said_to_be_gone(airflow: StagedAirflow, nightly: Workflow) -> None:
    dags.sync_dags(DEFAULT, now=timezone.now())
    del airflow.dags["etl"]
    refuse(airflow, "GET", "/dags/etl/details")

    dags.sync_dags(DEFAULT, now=timezone.now())

    dag = Dag.objects.get()
    assert (dag.is_present, dag.refused) == (False, ["see"])
    assert dag.refused_reason == "SVOps' user in Airflow may not see this DAG."
    assert "system.airflow_down" not in log()


def test_a_hidden_dag_that_is_shown_again_is_seen(airflow: StagedAirflow, nightly: Workflow) -> None:
    Dag.objects.update(refused=["run", "see"], is_present=False)
    Airflow.default()
    Airflow.objects.update(hidden_dags=["etl"])

    dags.sync_dags(DEFAULT, now=timezone.now())

    assert (Dag.objects.get().is_present, Dag.objects.get().refused) == (True, ["run"])
    assert Airflow.default().hidden_dags == []


def test_one_dag_whose_tasks_may_not_be_read_does_not_hold_up_the_others(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    airflow.dags["other"] = {
        **airflow.dags["etl"],
        "listed": {**airflow.dags["etl"]["listed"], "dag_id": "other"},
    }
    refuse(airflow, "GET", "/dags/etl/tasks")

    done = dags.sync_dags(DEFAULT, now=timezone.now())

    assert (sorted(done.seen), done.unusable) == (["etl", "other"], ["etl"])
    reason = "SVOps' user in Airflow may not see the tasks of the DAG etl (Forbidden)."
    assert Dag.objects.get(dag_id="etl").unusable_reason == reason


def test_a_run_of_a_hidden_dag_holds_up_no_poll_and_is_not_said_to_be_deleted(
    airflow: StagedAirflow, nightly: Workflow, ada: User, as_user: Callable[[User], APIClient]
) -> None:
    now = timezone.now()
    run = new_run(nightly, RunState.RUNNING, started_at=now, queued_at=now)
    refuse(airflow, "GET", f"/dags/etl/dagRuns/{run.dag_run_id}")

    assert poll.tick(DEFAULT, now=timezone.now())

    assert (refreshed(run).state, story(run)) == ("running", [])
    assert Dag.objects.get().refused == ["see"]
    assert Airflow.default().reachable
    shown = as_user(ada).get("/api/v1/runs").json()["results"][0]
    alone = as_user(ada).get(f"/api/v1/workflows/{nightly.pk}/runs/{run.pk}").json()
    assert (shown["stale"], shown["observed_at"], alone["stale"], alone["observed_at"]) == (True, None, True, None)
    [refused] = [
        reason
        for reason in explain.explain(refreshed(run), now=now, may_retry=True, may_see_logs=True)
        if reason.code == "refused"
    ]
    assert refused.reason == "etl: SVOps' user in Airflow may not see this DAG."


def test_a_right_that_every_poll_needs_is_an_outage_with_its_reason(airflow: StagedAirflow, nightly: Workflow) -> None:
    refuse(airflow, "GET", "/dags/~/dagRuns")

    assert not poll.tick(DEFAULT, now=timezone.now())

    state = Airflow.default()
    missing = "SVOps' user in Airflow may not GET /dags/~/dagRuns (Forbidden)"
    expected = f"{missing}; manage.py doctor says which right is missing"
    assert (state.reachable, state.last_error) == (False, expected)
    assert gateway.breaker(DEFAULT).fail_counter == 0


@pytest.mark.parametrize("path", ["/importErrors", "/dags/~/dagVersions", "/pools", "/eventLogs"])
def test_a_right_that_only_adds_something_is_no_outage(airflow: StagedAirflow, nightly: Workflow, path: str) -> None:
    run = new_run(nightly, RunState.QUEUED)
    airflow.put(run, "queued")
    component = {"status": "healthy"}
    names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    airflow.answers["GET", "/monitor/health"] = dict.fromkeys(names, component)
    airflow.answers["GET", "/pools"] = {"pools": [], "total_entries": 0}
    refuse(airflow, "GET", path)

    dags.sync_dags(DEFAULT, now=timezone.now())
    reasons = explain.explain(run, now=timezone.now(), may_retry=True, may_see_logs=True)

    assert poll.tick(DEFAULT, now=timezone.now())
    assert "airflow_down" not in [reason.code for reason in reasons]
    assert Airflow.default().reachable


def test_a_hidden_dag_whose_task_goes_on_holds_up_no_poll(airflow: StagedAirflow, nightly: Workflow) -> None:
    now = timezone.now()
    run = new_run(nightly, RunState.RUNNING, started_at=now, queued_at=now)
    airflow.put(run, "running", start=1)
    run.tasks.create(task_id="extract", state="deferred", map_index=-1, try_number=1, max_tries=0)
    airflow.begun = [
        {"event_log_id": 1, "event": "running", "dag_id": "etl", "run_id": run.dag_run_id, "task_id": "extract",
         "map_index": -1, "try_number": 1, "when": now.isoformat()}
    ]  # fmt: skip
    refuse(airflow, "POST", "/dags/~/dagRuns/~/taskInstances/list")

    assert poll.tick(DEFAULT, now=timezone.now())

    assert Airflow.default().reachable
    assert ("POST", "/dags/~/dagRuns/~/taskInstances/list") in airflow.calls
