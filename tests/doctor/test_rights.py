"""The doctor names exactly the right that is missing, and changes nothing in Airflow."""

from __future__ import annotations

import pytest

from accounts.models import User
from svops.doctor.examination import examine
from svops.doctor.findings import Finding, Outcome
from tests.doctor.conftest import Guard
from tests.doctor.guarded import GuardedAirflow
from workflows.models import Dag, Workflow

pytestmark = pytest.mark.django_db

READS = {
    "can read on DAGs",
    "can read on DAG Runs",
    "can read on Task Instances",
    "can read on Task Logs",
    "can read on XComs",
    "can read on ImportError",
    "can read on Audit Logs",
    "can read on Pools",
    "can read on Plugins",
}
ONLY_IN_3 = {"can read on DAG Versions", "can read on DAG Dependencies", "can read on HITL Detail"}
WRITES = {
    "can edit on DAGs",
    "can create on DAG Runs",
    "can edit on DAG Runs",
    "can edit on Task Instances",
}
ALL = READS | ONLY_IN_3 | WRITES
OPTIONAL = {
    f"can read on {name}" for name in ("Task Logs", "XComs", "ImportError", "Audit Logs", "Pools", "Plugins")
} | ONLY_IN_3


def examined(airflow: GuardedAirflow) -> list[Finding]:
    findings = [finding for finding in examine() if finding.part == "Airflow"]
    assert airflow.writes == []
    return findings


def found(findings: list[Finding], outcome: Outcome) -> dict[str, str]:
    return {finding.check: finding.found for finding in findings if finding.outcome == outcome}


def mends(findings: list[Finding]) -> set[str]:
    return {finding.mend.partition(" Without it")[0] for finding in findings if finding.outcome == Outcome.MISSING}


@pytest.mark.parametrize("first_api", [False, True], ids=["3", "2.11"])
def test_with_all_rights_everything_works(guarded: Guard, first_api: bool) -> None:
    findings = examined(guarded(ALL, first_api=first_api))

    assert (found(findings, Outcome.MISSING), found(findings, Outcome.WRONG)) == ({}, {})
    absent = {
        "read the groups of a DAG": "This Airflow does not show the groups of a DAG.",
        "list versions of DAGs": "This Airflow has no versions of DAGs.",
        "list questions of tasks": "This Airflow has no tasks that ask a person.",
    }
    ours = {"DAG folder": "Airflow has DAGs of its own, not the examples"}
    assert found(findings, Outcome.ABSENT) == (absent | ours if first_api else ours)


@pytest.mark.parametrize(
    ("right", "first_api"),
    [(right, False) for right in sorted(ALL)] + [(right, True) for right in sorted(READS | WRITES)],
)
def test_a_single_missing_right_is_named_and_no_other(guarded: Guard, right: str, first_api: bool) -> None:
    findings = examined(guarded(ALL - {right}, first_api=first_api))

    missing = found(findings, Outcome.MISSING)
    assert missing
    assert set(missing.values()) == {right}
    assert found(findings, Outcome.WRONG) == {}
    assert any(finding.is_problem for finding in findings) == (right not in OPTIONAL)
    role = {"can read on Audit Logs": "Admin", "can read on Plugins": "Op"}.get(
        right, "User" if right in WRITES else "Viewer"
    )
    mend = f"Add `{right}` to a role of SVOps' user; of Airflow's roles, {role} is the smallest with it."
    assert {text.partition(" Whether")[0] for text in mends(findings)} == {mend}


def test_a_user_who_may_only_read_lacks_one_right_first(guarded: Guard) -> None:
    findings = examined(guarded(READS | ONLY_IN_3))

    calls = ("start a run", "stop a run", "retry a run", "pause a DAG")
    assert found(findings, Outcome.MISSING) == dict.fromkeys(calls, "can edit on DAGs")
    [retry] = [finding for finding in findings if finding.check == "retry a run"]
    others = "can edit on DAG Runs, can edit on Task Instances"
    assert retry.mend.endswith(f" Whether {others} is there shows then.")


def test_two_missing_rights_are_both_named(guarded: Guard) -> None:
    findings = examined(guarded(ALL - {"can create on DAG Runs", "can read on Pools"}))

    expected = {"start a run": "can create on DAG Runs", "list pools": "can read on Pools"}
    assert found(findings, Outcome.MISSING) == expected


def test_a_simple_auth_manager_wants_a_role(guarded: Guard) -> None:
    findings = examined(guarded(READS | ONLY_IN_3, title="Simple auth manager sub application"))

    assert set(found(findings, Outcome.MISSING).values()) == {"the role user"}
    assert mends(findings) == {"Give SVOps' user the role `user` in [core] simple_auth_manager_users."}


def test_another_auth_manager_is_told_the_method_and_the_resource(guarded: Guard) -> None:
    findings = examined(guarded(ALL - {"can create on DAG Runs"}, title="Keycloak auth manager sub application"))

    assert mends(findings) == {"Allow SVOps' user POST on DAG Runs (in FAB's words: `can create on DAG Runs`)."}


def test_a_dag_of_a_workflow_that_may_not_be_run_is_named(guarded: Guard, nightly: Workflow, ada: User) -> None:
    airflow = guarded((ALL - {"can edit on DAGs"}) | {"can edit on DAG:etl"})
    other = {**airflow.dags["etl"]["listed"], "dag_id": "other"}
    airflow.dags["other"] = {**airflow.dags["etl"], "listed": other}
    hidden = Dag.objects.create(dag_id="hidden")
    for name, dag in (("Other", Dag.objects.create(dag_id="other")), ("Hidden", hidden)):
        Workflow.objects.create(name=name, dag=dag, owner=ada)

    findings = examined(airflow)

    assert found(findings, Outcome.MISSING) == {"DAG other": "SVOps' user may not run it"}
    assert found(findings, Outcome.WRONG) == {"DAG hidden": "a workflow is over it, and Airflow does not show it"}
    assert mends(findings) == {"Give SVOps' user `can edit on DAG:other` and `can create on DAG Runs`."}


@pytest.mark.parametrize("first_api", [False, True], ids=["3", "2.11"])
def test_a_user_without_any_right_is_told_once(guarded: Guard, first_api: bool) -> None:
    findings = examined(guarded(set(), first_api=first_api))

    refused = "Airflow refuses everything: wrong credentials, or a user without any role"
    assert found(findings, Outcome.WRONG) == {"sign in": refused}
    assert found(findings, Outcome.MISSING) == {}
