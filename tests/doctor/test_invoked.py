"""The doctor on an environment of Amazon MWAA that is asked by AWS's `InvokeRestApi`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from svops.doctor.examination import examine
from svops.doctor.findings import Outcome
from tests.doctor.conftest import Guard
from tests.doctor.guarded import GuardedAirflow
from tests.doctor.test_rights import ALL, found
from workflows import gateway
from workflows.airflow.tests.aws import Aws, refusal
from workflows.airflow.tests.scripted import Reply, ScriptedAirflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def airflow(guarded: Guard) -> GuardedAirflow:
    airflow = guarded(set(ALL))
    airflow.logins = 1
    return airflow


@pytest.fixture
def aws(airflow: GuardedAirflow, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    settings.AIRFLOW_AUTH, settings.AIRFLOW_MWAA_ENVIRONMENT = "mwaa", "prod"
    settings.AIRFLOW_MWAA_REGION, settings.AIRFLOW_MWAA_METHOD = "eu-west-1", "invoke_rest_api"
    settings.AIRFLOW_URL = "https://private.example.com"
    with ScriptedAirflow(api="/restapi") as server:
        aws = Aws(airflow, server)
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        yield aws
    gateway.pooled_client.cache_clear()


def test_everything_but_the_groups_of_a_dag_works(airflow: GuardedAirflow, aws: Aws) -> None:
    findings = [finding for finding in examine() if finding.part == "Airflow"]

    assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})
    assert found(findings, Outcome.ABSENT) == {
        "read the groups of a DAG": "This Airflow does not show the groups of a DAG.",
        "DAG folder": "Airflow has DAGs of its own, not the examples",
    }
    assert found(findings, Outcome.WORKS)["auth manager"] == "FAB"
    assert airflow.writes == []
    assert airflow.requests == []


def test_a_missing_right_in_airflow_is_named(airflow: GuardedAirflow, aws: Aws) -> None:
    airflow.allowed.remove("can create on DAG Runs")

    findings = [finding for finding in examine() if finding.part == "Airflow"]

    assert found(findings, Outcome.MISSING) == {"start a run": "can create on DAG Runs"}


def test_a_missing_right_in_aws_is_named(aws: Aws) -> None:
    denied = refusal("AccessDeniedException", 403)
    aws.server.pages["POST", "/restapi/prod"] = lambda _: denied

    findings = [finding for finding in examine() if finding.part == "Airflow"]

    expected = "AWS refuses InvokeRestApi (AccessDeniedException)"
    assert found(findings, Outcome.WRONG) == {"sign in": expected}


def test_a_log_that_it_does_not_give_is_no_problem(airflow: GuardedAirflow, aws: Aws) -> None:
    path = "/dags/etl/dagRuns/svops_doctor__none/taskInstances/none/logs/1"
    airflow.answers["GET", path] = lambda _: Reply(500, None)

    findings = [finding for finding in examine() if finding.part == "Airflow"]

    limits = "it gives at most 6 MB, within 10 s"
    assert found(findings, Outcome.WRONG) == {
        "read a log": f"InvokeRestApi of MWAA does not give this log (HTTP 500): {limits}"
    }
    assert [finding for finding in findings if finding.is_problem] == []
