"""The doctor against real Airflows: with each single right missing in FAB (2.x), and with the roles of Airflow 3."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from pytest_django import Settings

from conftest import GIVEN, HOME, AirflowServer
from runner.ports import free_port
from runner.testing import Served
from runner.versions import is_airflow_2
from svops.doctor.airflow import calls, reach
from svops.doctor.calls import Asked
from svops.doctor.examination import examine
from svops.doctor.findings import Finding, Outcome
from tests.doctor.test_rights import READS, WRITES, found
from workflows import gateway, way_in
from workflows.naming import DEFAULT

pytestmark = [pytest.mark.airflow, pytest.mark.django_db]

ROLE = "what SVOps needs"
DATABASE = HOME / "airflow" / "airflow" / "airflow.db"


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(DATABASE, timeout=60)) as connection:
        yield connection
        connection.commit()


def permission(connection: sqlite3.Connection, right: str) -> int:
    """Return FAB's number of a right such as `can read on DAG Runs`."""
    action, _, resource = right.partition(" on ")
    row = connection.execute(
        "SELECT pv.id FROM ab_permission_view pv JOIN ab_permission p ON p.id = pv.permission_id"
        " JOIN ab_view_menu v ON v.id = pv.view_menu_id WHERE p.name = ? AND v.name = ?",
        (action.replace(" ", "_"), resource),
    ).fetchone()
    return int(row[0])


def give(right: str) -> None:
    with database() as connection:
        [(role,)] = connection.execute("SELECT id FROM ab_role WHERE name = ?", (ROLE,))
        row = (permission(connection, right), role)
        connection.execute("INSERT INTO ab_permission_view_role (permission_view_id, role_id) VALUES (?, ?)", row)


def take(right: str) -> None:
    with database() as connection:
        connection.execute(
            "DELETE FROM ab_permission_view_role WHERE permission_view_id = ?"
            " AND role_id = (SELECT id FROM ab_role WHERE name = ?)",
            (permission(connection, right), ROLE),
        )


@pytest.fixture
def only_what_is_needed(airflow_server: AirflowServer, settings: Settings) -> Iterator[None]:
    """Give the user of SVOps a role that has just the rights that SVOps needs, instead of Admin."""
    with database() as connection:
        connection.execute("INSERT INTO ab_role (name) VALUES (?)", (ROLE,))
        [(admins,)] = connection.execute("SELECT role_id FROM ab_user_role")
        connection.execute("UPDATE ab_user_role SET role_id = (SELECT id FROM ab_role WHERE name = ?)", (ROLE,))
    for right in sorted(READS | WRITES):
        give(right)
    settings.AIRFLOW_READ_TIMEOUT = 30
    yield
    with database() as connection:
        connection.execute("UPDATE ab_user_role SET role_id = ?", (admins,))


def examined() -> list[Finding]:
    """Try the calls alone: on a busy machine, an Airflow takes a while for all of them."""
    with closing(gateway.separate(DEFAULT)) as client:
        airflow, _ = reach(client, way_in.access(DEFAULT))
        assert airflow
        return calls(airflow, Asked(client=client, dag_id="simple_workflow_example"), progress=lambda _: None)


@pytest.mark.skipif(not is_airflow_2() or bool(GIVEN.get("AIRFLOW_URL")), reason="only FAB has rights one by one")
@pytest.mark.usefixtures("only_what_is_needed")
@pytest.mark.timeout(1800)
def test_fab_is_told_exactly_the_right_that_is_missing() -> None:
    findings = examined()
    assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})

    named = {}
    for right in sorted(READS | WRITES):
        take(right)
        findings = examined()
        named[right] = (set(found(findings, Outcome.MISSING).values()), found(findings, Outcome.WRONG))
        give(right)

    assert named == {right: ({right}, {}) for right in READS | WRITES}


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


@pytest.mark.skipif(is_airflow_2(), reason="2.x has FAB only")
def test_a_viewer_of_airflow_3_is_told_to_become_a_user(passwords: dict[str, str], settings: Settings) -> None:
    act_as("victor", passwords, settings)

    findings = examined()

    calls = ("start a run", "stop a run", "retry a run", "pause a DAG")
    assert found(findings, Outcome.MISSING) == dict.fromkeys(calls, "the role user")
    assert found(findings, Outcome.WRONG) == {}


@pytest.mark.skipif(is_airflow_2(), reason="2.x has FAB only")
def test_a_user_of_airflow_3_may_do_everything_also_for_real(passwords: dict[str, str], settings: Settings) -> None:
    act_as("ulla", passwords, settings)

    findings = [finding for finding in examine(dag_id="simple_workflow_example") if finding.part == "Airflow"]

    assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})
    by_check = {finding.check: finding.outcome for finding in findings}
    real = ("start a real run", "read its tasks", "stop the real run", "retry it, as a dry run", "set its DAG's pause")
    assert {by_check[name] for name in real} == {Outcome.WORKS}
