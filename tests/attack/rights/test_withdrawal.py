"""What becomes of workflows when a rule is withdrawn, and of a platform that gets rules by an upgrade."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone
from pytest_django import Settings

from accounts.models import AuditEntry
from rest.errors import InvalidInputError, NotAllowedError
from tests.attack.rights.conftest import Office
from workflows import gateway, migrations, services
from workflows.checks import somebody_may_build
from workflows.dagrules import DagRule
from workflows.dispatch import dispatcher
from workflows.models import Dag, Event, Visibility
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow, new_run
from workflows.watch import adoption

REASON = "No rule lets its owner office-by-id build on the DAG sales_daily any more; an admin can add one."


def control(office: Office, who: str, run: Any, **body: Any) -> Any:
    return office.ask(who, "post", f"/workflows/{run.workflow_id}/runs/{run.pk}/control", body)


@pytest.mark.parametrize("who", ["by id", "admin", "key"])
def test_without_the_rule_of_its_owner_nobody_triggers_a_workflow(office: Office, who: str) -> None:
    """Before: nothing could be withdrawn. An account kept every DAG for ever."""
    office.close("by id")
    runs = f"/workflows/{office.mine.pk}/runs"

    refused = office.ask(who, "post", runs, {"parameters": {"rows": 1}})
    item = office.ask(who, "post", f"{runs}/batch", {"items": [{"parameters": {"rows": 1}}]}).json()["results"][0]

    assert (refused.status_code, refused.json()["code"], refused.json()["detail"]) == (409, "workflow_inactive", REASON)
    assert (item["status"], item["error"]["detail"]) == (409, REASON)
    assert not office.mine.runs.exists()
    assert office.ask(who, "get", f"/workflows/{office.mine.pk}").json()["hindrance"] == REASON
    listed = office.ask(who, "get", "/workflows?include=hindrance").json()["results"]
    assert {workflow["hindrance"] for workflow in listed if workflow["id"] == office.mine.pk} == {REASON}


@pytest.mark.parametrize("dry_run", [True, False])
def test_without_the_rule_nothing_is_retried(office: Office, dry_run: bool) -> None:
    """Before: a retry ran the DAG again, even if the account had lost its rights."""
    run = new_run(office.mine, RunState.FAILED, ended_at=NOW)
    office.close("by id")

    refused = control(office, "by id", run, action="retry", dry_run=dry_run)

    assert (refused.status_code, refused.json()["detail"]) == (409, REASON)
    [reason] = office.ask("by id", "get", f"/workflows/{office.mine.pk}/runs/{run.pk}/explain").json()["reasons"]
    assert (reason["code"], reason["who"], reason["action"]) == ("ended", "operator", f"It cannot be retried. {REASON}")


def test_a_run_is_not_retried_on_a_dag_that_its_workflow_has_left(office: Office) -> None:
    """Before: a workflow moved to another DAG could still run the old one again, by a retry."""
    run = new_run(office.mine, RunState.FAILED, ended_at=NOW)
    services.update_workflow(workflow=office.mine, actor=office.users["by id"], dag=office.lobby)
    office.close("by id")

    assert control(office, "by id", run, action="retry").json()["detail"] == REASON


def test_a_pause_concerns_the_dag_that_the_run_is_in(office: Office) -> None:
    """Before: it paused the DAG that the workflow has now, and not that of the run."""
    run = new_run(office.own["by id"], RunState.RUNNING)
    services.update_workflow(
        workflow=office.own["by id"], actor=office.users["by id"], dag=office.sales, default_parameters={"rows": 1}
    )

    assert control(office, "admin", run, action="pause", scope="workflow").status_code == 200
    office.lobby.refresh_from_db()
    office.sales.refresh_from_db()
    assert (office.lobby.is_paused, office.sales.is_paused) == (True, False)


@pytest.mark.parametrize("withdrawn", [True, False])
def test_a_run_that_waits_does_not_start_after_the_rule_is_withdrawn(
    office: Office, settings: Settings, withdrawn: bool
) -> None:
    """Before: a trigger with `run_at` started days later, even if the account had lost its rights."""
    with StagedAirflow() as airflow:
        settings.AIRFLOW_URL = airflow.url
        gateway.pooled_client.cache_clear()
        airflow.dags["sales_daily"] = airflow.dags["etl"]
        run_at = (timezone.now() + timedelta(days=1)).isoformat()
        body = {"parameters": {"rows": 1}, "run_at": run_at}
        assert office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs", body).status_code == 201
        if withdrawn:
            office.close("by id")

        dispatcher.dispatch_due(DEFAULT, now=timezone.now() + timedelta(days=1, minutes=1))

        run = office.mine.runs.get()
        failed = (RunState.FAILED, f"Could not dispatch the run to Airflow: {REASON}")
        assert (run.state, run.state_reason) == (failed if withdrawn else (RunState.QUEUED, ""))
        assert len(airflow.writes) == (0 if withdrawn else 1)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": "Other"}, 200),
        ({"visibility": "internal"}, 200),
        ({"is_active": False}, 200),
        ({"default_parameters": {"rows": 5}}, 403),
        ({"dag_id": "lobby", "default_parameters": {}}, 200),
    ],
)
def test_without_the_rule_a_workflow_is_only_closed_down(office: Office, change: dict[str, Any], status: int) -> None:
    """The decision: what builds on the DAG is refused, and the rest is not."""
    office.close("by id")

    assert office.ask("by id", "patch", f"/workflows/{office.mine.pk}", change).status_code == status
    assert office.ask("by id", "get", f"/workflows/{office.mine.pk}").status_code == 200
    assert office.ask("by id", "delete", f"/workflows/{office.mine.pk}").status_code == 204


def test_an_inactive_workflow_is_not_activated_without_the_rule(office: Office) -> None:
    office.mine.is_active = False
    office.mine.save()
    office.close("by id")

    assert office.ask("by id", "patch", f"/workflows/{office.mine.pk}", {"is_active": True}).status_code == 403


def test_a_rule_that_is_given_again_works_again(office: Office) -> None:
    office.close("by id")
    office.open(user=office.users["by id"], match="prefix", value="sales")

    asked = office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs", {"parameters": {"rows": 1}})

    assert asked.status_code == 201


def test_leaving_the_group_ends_its_rule(office: Office) -> None:
    user = office.users["by group"]
    user.groups.clear()

    assert not Dag.objects.visible_to(user).filter(pk=office.sales.pk).exists()


def test_each_change_of_a_rule_is_audited(office: Office) -> None:
    asked = office.ask("admin", "post", "/dag-rules", {"match": "tag", "value": "hr", "user": "office-viewer"})
    again = {"match": "tag", "value": "hr", "user": "office-viewer", "level": "manage"}
    changed = office.ask("admin", "post", "/dag-rules", again)
    withdrawn = office.ask("admin", "delete", f"/dag-rules/{asked.json()['id']}")

    assert (asked.status_code, changed.status_code, withdrawn.status_code) == (201, 200, 204)
    rows = AuditEntry.objects.filter(action__startswith="dag_rule.", object_id=str(asked.json()["id"])).order_by("id")
    built = {
        "airflow": "default",
        "match": "tag",
        "value": "hr",
        "user": "office-viewer",
        "group": None,
        "level": "build",
    }
    managed = built | {"level": "manage"}
    assert [(row.action, row.before, row.after) for row in rows] == [
        ("dag_rule.added", None, built),
        ("dag_rule.changed", built, managed),
        ("dag_rule.withdrawn", managed, None),
    ]


def test_a_rule_needs_a_value_that_means_something(office: Office) -> None:
    root = office.users["admin"]
    for rule in ({"match": "prefix"}, {"match": "all", "value": "x"}, {"match": "dag_id", "value": ""}):
        with pytest.raises(InvalidInputError):
            services.open_dags(actor=root, **rule)  # type: ignore[arg-type]
    with pytest.raises(NotAllowedError):
        services.open_dags(actor=office.users["manager"], match="all")  # type: ignore[arg-type]
    with pytest.raises(NotAllowedError):
        services.close_dags(actor=office.users["manager"], rule=DagRule.objects.all()[0])


def test_an_open_platform_opens_dags_and_not_the_errors_of_authors(office: Office, settings: Settings) -> None:
    """Before: every DAG was open to everybody, and viewers saw tracebacks."""
    settings.DAG_ACCESS = "open"

    dag = office.ask("without a rule", "get", "/dags/sales_daily").json()

    assert (dag["may_build"], dag["has_import_error"], dag["import_error"]) == (True, True, "")
    body = {"name": "New", "dag_id": "sales_daily", "default_parameters": {"rows": 1}}
    assert office.ask("without a rule", "post", "/workflows", body).status_code == 201


def test_an_upgrade_keeps_the_workflows_that_exist(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    """Without this, an upgrade would refuse the triggers of every existing workflow until somebody adds rules."""
    DagRule.objects.all().delete()
    migration = the_migration()

    migration.keep_workflows(apps, None)
    migration.keep_workflows(apps, None)

    rules = {(rule.user.username, rule.value, rule.level) for rule in DagRule.objects.all() if rule.user}
    lobby = {(user.username, "lobby", "build") for name, user in office.users.items() if name != "admin"}
    assert rules == lobby | {("office-by-id", "sales_daily", "build"), ("office-owner", "sales_daily", "build")}
    assert f"{len(rules)} DAG rules keep the workflows working that exist" in capsys.readouterr().out
    asked = office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs", {"parameters": {"rows": 1}})
    assert asked.status_code == 201


def the_migration() -> Any:
    name = next(found.name for found in iter_modules(migrations.__path__) if found.name.endswith("_keep_workflows"))
    return import_module(f"workflows.migrations.{name}")


def test_an_upgrade_says_of_which_dag_the_old_events_are(office: Office) -> None:
    """Without this, only admins would see the events about DAGs from before the upgrade."""
    old = {
        what: Event.objects.create(type=kind, timestamp=NOW, data=data)
        for what, kind, data in (
            ("synced", "dag.synced", {"airflow": "default", "dag_id": "lobby", "changed": []}),
            ("error", "dag.import_error", {"dag_ids": ["gone", "sales_daily"], "filename": "x", "error": "y"}),
            ("error of no DAG", "dag.import_error", {"dag_ids": [], "filename": "x", "error": "y"}),
        )
    }

    the_migration().say_which_dag(apps, None)

    found = Event.objects.in_bulk([event.pk for event in old.values()])
    assert {what: found[event.pk].dag for what, event in old.items()} == {
        "synced": office.lobby,
        "error": office.sales,
        "error of no DAG": None,
    }


def test_a_platform_without_any_rule_warns_its_operator(office: Office, settings: Settings) -> None:
    assert somebody_may_build(databases=["default"]) == []
    DagRule.objects.all().delete()

    [warning] = somebody_may_build(databases=["default"])

    assert (warning.id, warning.msg) == ("workflows.W001", "No DAG rule exists: only admins can create workflows.")
    settings.DAG_ACCESS = "open"
    assert somebody_may_build(databases=["default"]) == []


@pytest.mark.parametrize("chosen", [True, False])
def test_a_workflow_without_the_rule_adopts_no_run_of_airflow(office: Office, chosen: bool) -> None:
    """Before: the oldest workflow of a DAG got its runs that were started in Airflow, also if it was private."""
    office.hidden_run.delete()
    office.secret.delete()
    office.mine.visibility, office.mine.adopts_airflow_runs = Visibility.INTERNAL, chosen
    office.mine.save()
    assert adoption.adopters(DEFAULT, {"sales_daily"}) == {"sales_daily": office.mine}

    office.close("by id")

    assert adoption.adopters(DEFAULT, {"sales_daily"}) == {}
