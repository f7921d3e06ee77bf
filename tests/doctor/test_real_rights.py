"""The doctor against real Airflows: with each single right missing in FAB (2.x), and with the roles of Airflow 3."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role, User
from conftest import GIVEN, HOME, AirflowServer
from runner.ports import free_port
from runner.testing import Served
from runner.versions import is_airflow_2, is_fab
from svops.doctor.airflow import calls, reach
from svops.doctor.calls import Asked
from svops.doctor.examination import examine
from svops.doctor.findings import Finding, Outcome
from tests.doctor.test_rights import ALL, READS, WRITES, found
from workflows import gateway, services, way_in
from workflows.airflow import AirflowClient
from workflows.models import Airflow, Dag, Event, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.states import TERMINAL, RunState
from workflows.tests.real import connect, until
from workflows.watch import dags

pytestmark = [pytest.mark.airflow, pytest.mark.django_db(transaction=True)]

HAS_FAB = is_airflow_2() or is_fab()
ROLE = "what SVOps needs"
ALLOWED, SEEN, HIDDEN = "simple_workflow_example", "data_processing_pipeline", "ml_training_pipeline"
NEEDED = READS | WRITES if is_airflow_2() else ALL
DATABASE = HOME / "airflow" / "airflow" / "airflow.db"


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, timeout=60)) as connection:
        yield connection
        connection.commit()


def permission(connection: sqlite3.Connection, right: str) -> int:
    """Return FAB's number of a right such as `can read on DAG Runs`. That on one DAG is made if it is not there."""
    action, _, resource = right.partition(" on ")
    connection.execute("INSERT OR IGNORE INTO ab_view_menu (name) VALUES (?)", (resource,))
    [(of_action,)] = connection.execute("SELECT id FROM ab_permission WHERE name = ?", (action.replace(" ", "_"),))
    [(of_resource,)] = connection.execute("SELECT id FROM ab_view_menu WHERE name = ?", (resource,))
    pair = (of_action, of_resource)
    connection.execute("INSERT OR IGNORE INTO ab_permission_view (permission_id, view_menu_id) VALUES (?, ?)", pair)
    named = "SELECT id FROM ab_permission_view WHERE permission_id = ? AND view_menu_id = ?"
    [(number,)] = connection.execute(named, pair)
    return int(number)


def give(*rights: str) -> None:
    with database() as connection:
        [(role,)] = connection.execute("SELECT id FROM ab_role WHERE name = ?", (ROLE,))
        rows = [(permission(connection, right), role) for right in rights]
        connection.executemany("INSERT INTO ab_permission_view_role (permission_view_id, role_id) VALUES (?, ?)", rows)


def take(right: str) -> None:
    with database() as connection:
        connection.execute(
            "DELETE FROM ab_permission_view_role WHERE permission_view_id = ?"
            " AND role_id = (SELECT id FROM ab_role WHERE name = ?)",
            (permission(connection, right), ROLE),
        )


@contextmanager
def only(rights: Collection[str]) -> Iterator[None]:
    """Give the user of SVOps a role that has just these rights, instead of Admin."""
    with database() as connection:
        connection.execute("INSERT INTO ab_role (name) VALUES (?)", (ROLE,))
        [(admins,)] = connection.execute("SELECT role_id FROM ab_user_role")
        connection.execute("UPDATE ab_user_role SET role_id = (SELECT id FROM ab_role WHERE name = ?)", (ROLE,))
    give(*sorted(rights))
    yield
    with database() as connection:
        connection.execute("UPDATE ab_user_role SET role_id = ?", (admins,))
        connection.execute(
            "DELETE FROM ab_permission_view_role WHERE role_id = (SELECT id FROM ab_role WHERE name = ?)", (ROLE,)
        )
        connection.execute("DELETE FROM ab_role WHERE name = ?", (ROLE,))


@pytest.fixture
def client(airflow_server: AirflowServer, settings: Settings) -> Iterator[AirflowClient]:
    server = airflow_server
    with connect(settings, url=server.url, username=server.username, password=server.password) as client:
        yield client


def trigger(workflow: Workflow, **given: int) -> Run:
    request = services.RunRequest(parameters=given)
    run = services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)
    run.refresh_from_db()
    return run


def examined() -> list[Finding]:
    """Try the calls alone: on a busy machine, an Airflow takes a while for all of them."""
    with closing(gateway.separate(DEFAULT)) as client:
        airflow, _ = reach(client, way_in.access(DEFAULT))
        assert airflow
        return calls(airflow, Asked(client=client, dag_id="simple_workflow_example"), progress=lambda _: None)


of_fab = pytest.mark.skipif(not HAS_FAB or bool(GIVEN.get("AIRFLOW_URL")), reason="only FAB has rights one by one")


@of_fab
@pytest.mark.usefixtures("client")
@pytest.mark.timeout(1800)
def test_fab_is_told_exactly_the_right_that_is_missing() -> None:
    with only(NEEDED):
        findings = examined()
        assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})

        named = {}
        for right in sorted(NEEDED):
            take(right)
            findings = examined()
            named[right] = (set(found(findings, Outcome.MISSING).values()), found(findings, Outcome.WRONG))
            give(right)

    assert named == {right: ({right}, {}) for right in NEEDED}


@of_fab
@pytest.mark.usefixtures("client")
@pytest.mark.timeout(1800)
def test_rights_on_one_dag_are_that_dags_and_no_outage() -> None:
    dags.sync_dags(DEFAULT, now=timezone.now())
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    allowed, seen, hidden = (
        services.create_workflow(owner=owner, dag=Dag.objects.get(dag_id=dag_id), name=dag_id)
        for dag_id in (ALLOWED, SEEN, HIDDEN)
    )
    of_hidden = trigger(hidden)
    assert of_hidden.state == RunState.QUEUED
    rights = {f"can read on DAG:{ALLOWED}", f"can edit on DAG:{ALLOWED}", f"can read on DAG:{SEEN}"}

    with only(NEEDED - {"can read on DAGs", "can edit on DAGs"} | rights):
        dags.sync_dags(DEFAULT, now=timezone.now())
        until(ended := trigger(allowed, processing_time=0), lambda run: run.state in TERMINAL)
        refused = trigger(seen)
        findings = [finding for finding in examine() if finding.part == "Airflow"]

    assert ended.state == RunState.SUCCESS
    said = f"Could not dispatch the run to Airflow: SVOps' user in Airflow may not run the DAG {SEEN} (Forbidden)"
    assert (refused.state, refused.state_reason) == (RunState.FAILED, said)
    shown = {dag.dag_id: (dag.refused, dag.is_present) for dag in Dag.objects.all()}
    assert shown == {ALLOWED: ([], True), SEEN: (["run"], True), HIDDEN: (["see"], False)}
    of_hidden.refresh_from_db()
    assert of_hidden.state == RunState.QUEUED
    assert Airflow.default().reachable
    assert not Event.objects.filter(type="system.airflow_down").exists()
    rows = {finding.check: (finding.outcome, finding.found) for finding in findings}
    assert rows[f"DAG {SEEN}"] == (Outcome.MISSING, "SVOps' user may not run it")
    assert rows[f"DAG {HIDDEN}"] == (Outcome.WRONG, "a workflow is over it, and Airflow does not show it")
    assert set(found(findings, Outcome.MISSING)) == {f"DAG {SEEN}"}
    assert set(found(findings, Outcome.WRONG)) - {"DAG folder"} == {f"DAG {HIDDEN}"}

    dags.sync_dags(DEFAULT, now=timezone.now())
    until(of_hidden, lambda run: run.state != RunState.QUEUED)
    assert Dag.objects.get(dag_id=HIDDEN).refused == []


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The password of each user of an Airflow 3 with a viewer and a user. Its address is under `url`."""
    home = tmp_path_factory.mktemp("roles")
    variable = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
    # An embedded Airflow sees only the variables that are named for its tasks.
    users = "admin:admin,victor:viewer,ulla:user"
    env = {"AIRFLOW_PORT": str(free_port()), variable: users, "AIRFLOW_TASK_ENV": variable}
    served = Served("airflow", home=home, env=env)
    yield {**json.loads((home / "airflow" / "passwords.json").read_text()), "url": served.exports["AIRFLOW_URL"]}
    served.stop()


def act_as(username: str, passwords: dict[str, str], settings: Settings) -> None:
    settings.AIRFLOW_URL = passwords["url"]
    settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = username, passwords[username]
    settings.AIRFLOW_READ_TIMEOUT = 30


@pytest.mark.skipif(HAS_FAB, reason="FAB has no such roles")
def test_a_viewer_of_airflow_3_is_told_to_become_a_user(passwords: dict[str, str], settings: Settings) -> None:
    act_as("victor", passwords, settings)

    findings = examined()

    calls = ("start a run", "stop a run", "retry a run", "pause a DAG")
    assert found(findings, Outcome.MISSING) == dict.fromkeys(calls, "the role user")
    assert found(findings, Outcome.WRONG) == {}


@pytest.mark.skipif(HAS_FAB, reason="FAB has no such roles")
def test_a_user_of_airflow_3_may_do_everything_also_for_real(passwords: dict[str, str], settings: Settings) -> None:
    act_as("ulla", passwords, settings)

    findings = [finding for finding in examine(dag_id="simple_workflow_example") if finding.part == "Airflow"]

    assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})
    by_check = {finding.check: finding.outcome for finding in findings}
    real = ("start a real run", "read its tasks", "stop the real run", "retry it, as a dry run", "set its DAG's pause")
    assert {by_check[name] for name in real} == {Outcome.WORKS}
