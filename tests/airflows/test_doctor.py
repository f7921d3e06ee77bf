"""The doctor examines each Airflow, and says which one a row is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import Role, User
from svops.doctor.examination import examine, summary
from svops.doctor.findings import Finding, Outcome, grouped
from tests.airflows.conftest import PROD, add, forget
from tests.doctor.guarded import GuardedAirflow
from tests.doctor.test_rights import ALL
from workflows.models import Airflow, Dag, Workflow
from workflows.naming import DEFAULT
from workflows.watch import arrivals

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def default(settings: Settings, db: None) -> Iterator[GuardedAirflow]:
    """The default one allows everything. Beat has just ticked."""
    with GuardedAirflow(ALL) as server:
        settings.AIRFLOW_URL = server.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        settings.INGEST_SECRET = "signs what the default one pushes"
        Airflow.default()
        Airflow.objects.update(ticked_at=timezone.now())
        yield server


@pytest.fixture
def guarded_prod(db: None) -> Iterator[GuardedAirflow]:
    """It lacks the right to start runs."""
    with GuardedAirflow(ALL - {"can create on DAG Runs"}) as server:
        add(PROD, server.url)
        yield server
        forget(PROD)


def of(findings: list[Finding], name: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.airflow == name}


def test_with_one_airflow_the_titles_are_as_ever() -> None:
    findings = list(examine())

    assert list(grouped(findings)) == ["SVOps", "Messages", "Airflow", "Listener"]
    assert {finding.airflow for finding in findings} == {"", DEFAULT}


def test_each_airflow_is_examined(guarded_prod: GuardedAirflow) -> None:
    findings = list(examine())

    assert list(grouped(findings)) == [
        "SVOps",
        "Messages",
        "Airflow default",
        "Listener default",
        "Airflow prod",
        "Listener prod",
    ]
    assert of(findings, DEFAULT)["start a run"].outcome == Outcome.WORKS
    assert of(findings, PROD)["start a run"].outcome == Outcome.MISSING
    assert of(findings, PROD)["answer"].found == guarded_prod.url
    assert of(findings, PROD)["sign in"].found == "by auth=password"
    assert summary(findings).startswith(f"Doctor: {len(findings)} checks, a problem with prod: start a run (can create")


def test_one_that_is_down_leaves_the_others_examined(unused_tcp_port: int) -> None:
    add(PROD, f"http://127.0.0.1:{unused_tcp_port}")

    findings = list(examine())
    forget(PROD)

    assert [(row.check, row.mend) for row in of(findings, PROD).values() if row.is_problem] == [
        ("answer", "Start Airflow, or mend `url` of prod and the network between.")
    ]
    assert [row for row in of(findings, DEFAULT).values() if row.is_problem] == []


def test_one_whose_secrets_cannot_be_read_is_a_row() -> None:
    Airflow.objects.create(name=PROD, options={"url": "http://127.0.0.1:9"}, secrets="sealed with a key that is gone")

    [row] = of(list(examine()), PROD).values()

    assert (row.check, row.outcome, row.is_problem) == ("answer", Outcome.WRONG, True)
    assert row.found.startswith("the way to prod cannot be read: ")


def test_each_is_asked_about_the_dags_of_its_own_workflows(guarded_prod: GuardedAirflow, ada: User) -> None:
    for name in (DEFAULT, PROD):
        dag = Dag.objects.create(dag_id=f"only_on_{name}", airflow_id=name)
        Workflow.objects.create(name=name, dag=dag, owner=ada)

    findings = list(examine())

    assert {
        name: [check for check in of(findings, name) if check.startswith("DAG only")] for name in (DEFAULT, PROD)
    } == {
        DEFAULT: ["DAG only_on_default"],
        PROD: ["DAG only_on_prod"],
    }


def test_the_command_examines_the_named_one_alone(
    guarded_prod: GuardedAirflow, default: GuardedAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call_command("doctor", airflow=PROD, json=True)

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {finding["airflow"] for finding in findings} == {"", PROD}
    assert default.requests == []


def test_the_command_names_the_airflows_if_there_is_none_of_that_name(guarded_prod: GuardedAirflow) -> None:
    with pytest.raises(CommandError, match=re.escape("There is no active Airflow 'pord'. There is: default, prod.")):
        call_command("doctor", airflow="pord")

    assert guarded_prod.requests == []


def test_a_real_run_is_started_on_one_of_them_alone(guarded_prod: GuardedAirflow, default: GuardedAirflow) -> None:
    default.allowed = ALL - {"can create on DAG Runs"}
    guarded_prod.allowed = ALL

    by_default = list(examine(dag_id="etl"))

    assert of(by_default, DEFAULT)["start a real run"].outcome == Outcome.MISSING
    assert "start a real run" not in of(by_default, PROD)


@pytest.mark.django_db(transaction=True)
def test_a_push_goes_to_the_address_of_each_with_its_secret(
    guarded_prod: GuardedAirflow, settings: Settings, live_server: LiveServer
) -> None:
    settings.SVOPS_INGEST_URL = f"{live_server.url}/api/v1/ingest"
    arrivals._redis().delete(arrivals._key(PROD))

    findings = list(examine())

    for name, path in ((DEFAULT, ""), (PROD, "/prod")):
        row = of(findings, name)["SVOps takes pushes"]
        assert (row.outcome, row.found) == (Outcome.WORKS, f"{settings.SVOPS_INGEST_URL}{path}")
    assert "(it ends with /prod)" in of(findings, PROD)["pushes arrive"].mend


def test_one_without_a_secret_of_its_own_gets_no_pushes(guarded_prod: GuardedAirflow) -> None:
    Airflow.objects.filter(name=PROD).update(
        options={"url": guarded_prod.url, "username": "admin", "password": "admin"}, secrets=""
    )
    forget(PROD)

    row = of(list(examine()), PROD)["pushes"]

    assert (row.outcome, row.found) == (Outcome.ABSENT, "`ingest_secret` of prod is not set, so pushes are off")


def test_the_page_examines_all_or_the_chosen_one(guarded_prod: GuardedAirflow, default: GuardedAirflow) -> None:
    client = Client()
    client.force_login(
        User.objects.create_user("somebody", "somebody@example.com", "correct horse battery", role=Role.ADMIN)
    )
    assert "<option>prod</option>" in client.get("/admin/doctor/").content.decode()

    chosen = client.post("/admin/doctor/", {"airflow": PROD}).content.decode()
    assert default.requests == []
    every = client.post("/admin/doctor/").content.decode()

    assert "<caption>Airflow prod</caption>" in chosen
    assert {title in every for title in ("<caption>Airflow prod</caption>", "<caption>Airflow default</caption>")} == {
        True
    }
    wrong = client.post("/admin/doctor/", {"airflow": "pord"})
    assert (wrong.status_code, wrong.content.decode()) == (
        400,
        "airflow: expected one of default, prod, or nothing for all of them.",
    )
