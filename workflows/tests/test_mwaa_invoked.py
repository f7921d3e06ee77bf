"""An environment of Amazon MWAA by `InvokeRestApi`, through the whole of SVOps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import gateway
from workflows.airflow.tests.aws import Aws, refusal
from workflows.airflow.tests.scripted import Reply, ScriptedAirflow
from workflows.conftest import bearer, token_of
from workflows.dispatch.tests.steps import trigger
from workflows.models import Airflow, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, log, new_run
from workflows.watch import poll

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def aws(airflow: StagedAirflow, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    settings.AIRFLOW_AUTH, settings.AIRFLOW_MWAA_ENVIRONMENT = "mwaa", "prod"
    settings.AIRFLOW_MWAA_REGION, settings.AIRFLOW_MWAA_METHOD = "eu-west-1", "invoke_rest_api"
    airflow.logins = 1
    with ScriptedAirflow(api="/restapi") as server:
        aws = Aws(airflow, server)
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        gateway.pooled_client.cache_clear()
        yield aws
    gateway.pooled_client.cache_clear()


def url_of(run: Run) -> str:
    return f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/tasks/load/logs"


def test_a_run_is_started_and_followed(airflow: StagedAirflow, aws: Aws, nightly: Workflow) -> None:
    run = trigger(nightly)
    assert run.state == RunState.QUEUED
    airflow.runs[run.dag_id, run.dag_run_id] |= {"state": "success", "start_date": timezone.now().isoformat()}
    airflow.runs[run.dag_id, run.dag_run_id]["end_date"] = timezone.now().isoformat()

    assert poll.tick(DEFAULT, now=timezone.now())

    run.refresh_from_db()
    assert run.state == RunState.SUCCESS
    assert airflow.requests == []


def test_a_log_is_shown(airflow: StagedAirflow, aws: Aws, nightly: Workflow, ada: User) -> None:
    run = new_run(nightly, RunState.RUNNING)
    airflow.put_task(run, "load", "running")
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/load/logs/1"
    airflow.answers["GET", path] = {"content": [{"event": "hello", "level": "info"}], "continuation_token": "x"}

    answer = bearer(token_of(ada)).get(url_of(run))

    assert [line["text"] for line in answer.json()["lines"]] == ["hello"]


def test_a_log_that_is_too_much_says_so_and_is_no_outage(
    airflow: StagedAirflow, aws: Aws, nightly: Workflow, ada: User
) -> None:
    run = new_run(nightly, RunState.RUNNING)
    airflow.put_task(run, "load", "running")
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/load/logs/1"
    airflow.answers["GET", path] = lambda _: Reply(500, None)

    answer = bearer(token_of(ada)).get(url_of(run))

    detail = "InvokeRestApi of MWAA does not give this log (HTTP 500): it gives at most 6 MB, within 10 s."
    assert (answer.status_code, answer.json()["detail"]) == (502, detail)
    assert Airflow.default().reachable
    assert gateway.breaker(DEFAULT).fail_counter == 0
    assert log() == []


def test_a_start_that_aws_refuses_for_its_path_fails_with_that_reason(aws: Aws, nightly: Workflow) -> None:
    aws.answers.append(refusal("ValidationException", 400, "Update your environment to use InvokeRestApi"))

    run = trigger(nightly)

    said = "AWS refuses this call of InvokeRestApi: Update your environment to use InvokeRestApi"
    assert (run.state, run.state_reason) == ("failed", f"Could not dispatch the run to Airflow: {said}")
    assert Airflow.default().reachable


def test_a_start_that_is_throttled_waits(aws: Aws, nightly: Workflow) -> None:
    aws.answers.append(refusal("ThrottlingException", 429))

    run = trigger(nightly)

    assert run.state == RunState.PENDING
    assert Airflow.default().reachable


def test_a_right_in_aws_that_is_taken_away_is_an_outage_with_its_name(aws: Aws, nightly: Workflow) -> None:
    aws.answers.append(refusal("AccessDeniedException", 403))

    run = trigger(nightly)

    assert run.state == RunState.PENDING
    seen = Airflow.default()
    assert (seen.reachable, seen.last_error) == (False, "AWS refuses InvokeRestApi (AccessDeniedException)")
