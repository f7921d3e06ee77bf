"""Every caller at every place that takes or shows a DAG. A DAG belongs to those to whom an admin opened it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client

from notifications import facts, rules
from notifications.models import NotificationConfig
from tests.attack.rights.conftest import CALLERS, ROLES, Office
from workflows.dagrules import DagLevel, DagMatch
from workflows.eventlog import audience, events, publication
from workflows.models import Dag, Event, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, new_run

RULED = {"viewer", "by id", "by prefix", "by tag", "by group", "manager", "owner"}
BUILDERS = {*RULED, "admin", "key"} - {"viewer"}
SEES = {*RULED, "admin", "key"}


def statuses(**groups: set[str]) -> dict[str, int]:
    """Return the expected status of each caller: `s200={...}`."""
    found = {who: int(name[1:]) for name, group in groups.items() for who in group}
    return {who: found[who] for who in CALLERS}


def others(*groups: set[str]) -> set[str]:
    return set(CALLERS).difference(*groups)


def test_the_list_names_a_closed_dag_to_those_with_a_rule_only(office: Office) -> None:
    """Before: everybody who had signed in, viewers too, got every DAG with its schema, graph and documentation."""
    listed = {}
    for who in SEES | {"without a rule"}:
        listed[who] = [dag["dag_id"] for dag in office.ask(who, "get", "/dags").json()["results"]]

    assert listed == {who: ["lobby", "sales_daily"] for who in SEES} | {"without a rule": ["lobby"]}


def test_a_closed_dag_is_not_found_like_one_that_does_not_exist(office: Office) -> None:
    """Before: 200 for everybody who had signed in."""
    assert office.ask_all("get", "/dags/sales_daily") == statuses(
        s200=SEES, s401={"anonymous"}, s403={"limited key", "ticket"}, s404={"without a rule"}
    )
    hidden = office.ask("without a rule", "get", "/dags/sales_daily").json()
    unknown = office.ask("without a rule", "get", "/dags/nowhere").json()
    assert {**hidden, "request_id": ""} == {**unknown, "request_id": ""}


def test_a_workflow_over_a_closed_dag_is_created_by_those_with_a_rule_only(office: Office) -> None:
    """Before: 201 for every user: any DAG could be triggered with any parameters."""
    body = {"name": "New", "dag_id": "sales_daily", "visibility": "private", "default_parameters": {"rows": 1}}

    assert office.ask_all("post", "/workflows", body) == statuses(
        s201=BUILDERS - {"key"}, s400={"without a rule", "key", "limited key"}, s401={"anonymous"},
        s403={"viewer", "ticket"},
    )  # fmt: skip
    # The key is that of "by id", who has the name already.
    assert office.ask("key", "post", "/workflows", body | {"name": "Of the key"}).status_code == 201
    assert not Workflow.objects.filter(owner=office.users["without a rule"], dag=office.sales).exists()


def test_the_refusal_does_not_say_whether_a_closed_dag_exists(office: Office) -> None:
    """Before: the names of all DAGs were in `GET /dags`."""
    refusals = [
        office.ask("without a rule", "post", "/workflows", {"name": "New", "dag_id": dag_id}).json()["errors"]["dag_id"]
        for dag_id in ("sales_daily", "nowhere")
    ]

    assert refusals == [
        [f"There is no DAG {dag_id}, or you cannot see it: see GET /api/v1/dags."]
        for dag_id in ("sales_daily", "nowhere")
    ]


def test_a_workflow_moves_to_a_closed_dag_for_those_with_a_rule_only(office: Office) -> None:
    """Before: `PATCH {"dag_id": …}` moved a workflow over any DAG, with a key limited to that workflow too."""
    moved = {}
    for who in ("without a rule", "by id", "by prefix", "by tag", "by group", "manager", "limited key", "key"):
        with transaction.atomic():
            workflow = office.own["by id" if "key" in who else who]
            body = {"dag_id": "sales_daily", "default_parameters": {"rows": 1}}
            moved[who] = office.ask(who, "patch", f"/workflows/{workflow.pk}", body).status_code
            transaction.set_rollback(True)

    assert moved == {
        **dict.fromkeys(("by id", "by prefix", "by tag", "by group", "manager", "key"), 200),
        "without a rule": 400,
        "limited key": 400,
    }


def test_a_manage_grant_does_not_lend_the_rule_of_the_owner(office: Office) -> None:
    """Before: a user who could manage a workflow of an admin could put it over any DAG."""
    workflow, guest = office.own["admin"], office.users["without a rule"]
    office.open(user=guest, match="dag_id", value="seen")
    Dag.objects.create(dag_id="seen")
    office.ask("admin", "post", f"/workflows/{workflow.pk}/grants", {"user": guest.username, "level": "manage"})
    seen_through_a_workflow = Dag.objects.create(dag_id="seen_only")
    shown = Workflow.objects.create(name="Shown", dag=seen_through_a_workflow, owner=office.users["admin"])

    refused = office.ask("without a rule", "patch", f"/workflows/{workflow.pk}", {"dag_id": "seen_only"})

    assert shown.visibility == "internal"
    assert list(refused.json()["errors"]) == ["dag_id"]
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "No rule lets office-without-a-rule build on the DAG seen_only; an admin can add one.",
    )
    assert office.ask("without a rule", "patch", f"/workflows/{workflow.pk}", {"dag_id": "seen"}).status_code == 200


@pytest.mark.parametrize("place", ["", "/validate", "/batch"])
def test_a_rule_for_the_dag_does_not_open_the_workflows_of_others(office: Office, place: str) -> None:
    """Before: 404 too; a rule must not loosen it."""
    body = {"items": [{"parameters": {"rows": 1}}]} if place == "/batch" else {"parameters": {"rows": 1}}
    allowed = {"owner", "admin"}
    expected = statuses(
        s200=allowed if place else set(), s201=set() if place else allowed, s401={"anonymous"},
        s403={"viewer", "ticket"}, s404=others(allowed, {"anonymous", "viewer", "ticket"}),
    )  # fmt: skip

    assert office.ask_all("post", f"/workflows/{office.secret.pk}/runs{place}", body) == expected


@pytest.mark.parametrize("who", ["by id", "key"])
def test_a_dag_with_a_hidden_workflow_is_not_paused_by_a_neighbour(office: Office, who: str) -> None:
    """Before: 200, and the private run of somebody else froze."""
    for place in (f"/workflows/{office.mine.pk}/pause", f"/workflows/{office.mine.pk}/resume"):
        refused = office.ask(who, "post", place, {})

        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
        assert "1" not in refused.json()["detail"]
    office.hidden_run.refresh_from_db()
    office.sales.refresh_from_db()
    assert (office.hidden_run.paused, office.sales.is_paused) == (False, False)
    assert office.ask("admin", "post", f"/workflows/{office.mine.pk}/pause", {}).status_code == 200


@pytest.mark.parametrize("scope", [None, "run", "workflow"])
def test_pausing_a_run_mentions_no_hidden_runs(office: Office, scope: str | None) -> None:
    """Before: 409 "would freeze 1 other runs" counted the hidden run, and `scope: workflow` froze it."""
    run = new_run(office.mine, RunState.RUNNING)
    body = {"action": "pause", **({"scope": scope} if scope else {})}

    refused = office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs/{run.pk}/control", body)

    assert refused.status_code == 403
    assert refused.json().keys() == {"code", "detail", "request_id"}
    office.hidden_run.refresh_from_db()
    assert office.hidden_run.paused is False


def test_a_user_who_may_run_everything_on_a_dag_pauses_it(office: Office) -> None:
    """Before: nothing was checked. A limited key never pauses what is beyond its list."""
    grant = {"user": office.users["by id"].username, "level": "run"}
    assert office.ask("owner", "post", f"/workflows/{office.secret.pk}/grants", grant).status_code == 201
    only_mine = office.ask("limited key", "post", f"/workflows/{office.own['by id'].pk}/pause", {})

    assert office.ask("by id", "post", f"/workflows/{office.mine.pk}/pause", {}).status_code == 200
    assert only_mine.status_code == 403  # others have workflows over `lobby` too


def test_the_list_before_a_pause_names_visible_runs_only_and_all_of_them(office: Office) -> None:
    """Before: `other_runs` counted hidden runs too."""
    office.secret.visibility = "internal"
    office.secret.save()
    run = new_run(office.mine, RunState.RUNNING)

    asked = office.ask("by id", "post", f"/workflows/{office.mine.pk}/runs/{run.pk}/control", {"action": "pause"})

    body = asked.json()
    assert (asked.status_code, body["other_runs"]) == (409, 1)
    assert [one["run_id"] for one in body["runs"]] == [str(office.hidden_run.pk)]


def test_only_those_who_may_manage_a_dag_see_the_error_of_its_author(office: Office) -> None:
    """Before: `import_error` showed viewers a traceback with the password of a database."""
    shown = {who: office.ask(who, "get", "/dags/sales_daily").json() for who in sorted(SEES)}

    assert {who for who, dag in shown.items() if dag["import_error"]} == {"manager", "admin"}
    assert all(dag["has_import_error"] for dag in shown.values())
    assert not any("hunter2" in str(dag) for dag in shown.values())
    assert "db.internal" in shown["manager"]["import_error"]


IN_BUNDLE = {"bundle_name": "dags", "relative_fileloc": "team.py", "fileloc": "/v1/team.py"}


@pytest.mark.parametrize(
    ("file", "file_of_other", "reads"),
    [
        (IN_BUNDLE, IN_BUNDLE, {"both", "admin"}),
        # A newer copy of the bundle, and a DAG that has gone from the file: a traceback may still quote it.
        (IN_BUNDLE, IN_BUNDLE | {"fileloc": "/v2/team.py", "is_present": False}, {"both", "admin"}),
        ({"fileloc": "/dags/team.py"}, {"fileloc": "/dags/team.py"}, {"both", "admin"}),
        (IN_BUNDLE, IN_BUNDLE | {"bundle_name": "other"}, {"one", "both", "admin"}),
        ({"fileloc": "/dags/team.py"}, {"fileloc": "/dags/other.py"}, {"one", "both", "admin"}),
        ({}, {}, {"one", "both", "admin"}),
    ],
)
@pytest.mark.parametrize("by", ["user", "group", "everybody"])
def test_the_error_of_a_file_is_for_those_who_manage_every_dag_in_it(
    office: Office, file: dict[str, Any], file_of_other: dict[str, Any], reads: set[str], by: str
) -> None:
    """Before: whoever managed the first DAG of a file read the code of the other teams' DAGs in it (1 of 2 teams)."""
    Dag.objects.filter(pk=office.sales.pk).update(**file)
    Dag.objects.create(dag_id="wages", import_error=office.sales.import_error, **file_of_other)
    names = {"one": "manager", "both": "owner", "admin": "admin"}
    both, wages = office.users["owner"], Group.objects.create(name="office-wages")
    both.groups.add(wages)
    office.open(user=both, match=DagMatch.PREFIX, value="sales", level=DagLevel.MANAGE)
    who_opens: dict[str, dict[str, Any]] = {"user": {"user": both}, "group": {"group": wages}, "everybody": {}}
    office.open(match=DagMatch.DAG_ID, value="wages", level=DagLevel.MANAGE, **who_opens[by])
    if by == "everybody":
        reads = reads | {"one"}
    event = _record(
        events.DagImportError(airflow=DEFAULT, filename="team.py", dag_ids=["sales_daily"], error="boom"), office.sales
    )
    publication.publish()

    key = audience.key_of(event)
    assert key is not None
    its_audience = audience.load_all([key])[key]
    for who, name in names.items():
        user = office.users[name]
        shown = office.ask(name, "get", "/dags/sales_daily").json()
        listed = office.ask(name, "get", "/dags").json()["results"]
        ways = {
            "the DAG": shown["import_error"] != "",
            "the list": any(dag["import_error"] for dag in listed if dag["dag_id"] == "sales_daily"),
            "the log": Event.objects.visible_to(user).filter(pk=event.pk).exists(),
            "streams": its_audience.includes(user_id=user.pk, is_admin=user.is_superuser),
            "notifications": rules.why_hidden(NotificationConfig(owner=user), facts.of(event)) == "",
        }
        assert ways == dict.fromkeys(ways, who in reads), who
        assert shown["has_import_error"]


def _record(data: events.EventData, dag: Dag | None) -> Event:
    with transaction.atomic():
        return events.record(data, now=NOW, dag=dag)


@pytest.fixture
def about_dags(office: Office) -> dict[str, Event]:
    """An event of each kind about a DAG."""
    error = events.DagImportError(airflow=DEFAULT, filename="sales.py", dag_ids=["sales_daily"], error="boom")
    recorded = {
        "synced": _record(events.DagSynced(airflow=DEFAULT, dag_id="sales_daily", changed=["tags"]), office.sales),
        "error": _record(error, office.sales),
        "error of no DAG": _record(
            events.DagImportError(airflow=DEFAULT, filename="x.py", dag_ids=[], error="boom"), None
        ),
        "everybody": _record(events.AirflowUp(airflow=DEFAULT, version="3"), None),
    }
    publication.publish()
    for event in recorded.values():
        event.refresh_from_db()
    return recorded


EXPECTED = {
    "synced": RULED | {"admin"},
    "error": {"manager", "admin"},
    "error of no DAG": {"admin"},
    "everybody": set(ROLES),
}


def test_events_about_a_dag_are_polled_by_those_who_may_know_of_it(
    office: Office, about_dags: dict[str, Event]
) -> None:
    """Before: everybody got the events of every DAG, with tracebacks."""
    for who in (*ROLES, "key"):
        got = {event["id"] for event in office.ask(who, "get", "/events").json()["results"]}
        expected = {what for what, seen_by in EXPECTED.items() if ("by id" if who == "key" else who) in seen_by}
        assert {what for what, event in about_dags.items() if event.position in got} == expected, who


def test_streams_and_notifications_send_the_same_events_as_the_poll(
    office: Office, about_dags: dict[str, Event]
) -> None:
    """Before: the three had no rule for DAGs, so all sent everything."""
    for what, event in about_dags.items():
        key = audience.key_of(event)
        its_audience = audience.load_all([key])[key] if key is not None else None
        for who, user in office.users.items():
            expected = who in EXPECTED[what]
            assert Event.objects.visible_to(user).filter(pk=event.pk).exists() == expected, (what, who)
            if its_audience:
                assert its_audience.includes(user_id=user.pk, is_admin=user.is_superuser) == expected, (what, who)
            config = NotificationConfig(owner=user)
            assert (rules.why_hidden(config, facts.of(event)) == "") == expected, (what, who)


def test_a_limited_key_and_a_ticket_get_no_event_about_a_dag(office: Office, about_dags: dict[str, Event]) -> None:
    """Before: neither got one; it stays so, also for a user who manages the DAG."""
    assert office.ask("limited key", "get", "/events").json()["results"] == []
    assert office.ask("ticket", "get", "/events").status_code == 403


def test_commands_find_only_what_their_user_can_see(office: Office) -> None:
    """Before: `run_workflow --user` and `stop_run --user` named every workflow and run to anybody."""
    stranger = office.users["by id"].username

    with pytest.raises(CommandError, match="There is no workflow 'Secret'"):
        call_command("run_workflow", "Secret", "--user", stranger)
    for command in ("stop_run", "retry_run"):
        with pytest.raises(CommandError, match="There is no run"):
            call_command(command, str(office.hidden_run.pk), "--user", stranger)
    office.hidden_run.refresh_from_db()
    assert office.hidden_run.state == RunState.RUNNING


def test_the_admin_pages_refuse_an_owner_without_a_rule(office: Office) -> None:
    """Before: the form made a workflow over any DAG for any owner."""
    browser = Client()
    browser.force_login(office.users["admin"])
    form: dict[str, Any] = {
        "name": "Given", "description": "", "dag": office.sales.pk, "visibility": "private", "is_active": "on",
        "default_parameters": '{"rows": 1}', "grants-TOTAL_FORMS": "0", "grants-INITIAL_FORMS": "0",
    }  # fmt: skip

    refused = browser.post("/admin/workflows/workflow/add/", form | {"owner": office.users["without a rule"].pk})

    assert b"No rule lets office-without-a-rule build on the DAG sales_daily" in refused.content
    assert not Workflow.objects.filter(name="Given").exists()
    assert (
        browser.post("/admin/workflows/workflow/add/", form | {"owner": office.users["by tag"].pk}).status_code == 302
    )


def test_only_admins_open_the_admin_pages_of_rules(office: Office) -> None:
    """The pages are new: nobody else gets in."""
    for who in ("without a rule", "viewer", "manager"):
        browser = Client()
        browser.force_login(office.users[who])
        assert browser.get("/admin/workflows/dagrule/").status_code == 302
        assert browser.post("/admin/workflows/dagrule/add/", {"match": "all"}).status_code == 302


@pytest.mark.parametrize("value", ["SALES_daily", "sales_daily ", "sales", "sales_dail_", "%", "sales\u200b_daily"])
def test_names_that_look_alike_do_not_match(office: Office, value: str) -> None:
    """Before: there were no rules. On SQLite, `startswith` of the ORM would ignore capital letters and match `_`."""
    user = office.users["without a rule"]
    for match in ("dag_id", "tag"):
        office.open(user=user, match=match, value=value)
    if value not in ("sales", "sales_dail_"):
        office.open(user=user, match="prefix", value=value)
    if value == "sales":
        user.dag_rules.filter(match="tag").delete()

    assert list(Dag.objects.visible_to(user)) == [office.lobby]
    assert office.ask("without a rule", "post", "/workflows", {"name": "N", "dag_id": "sales_daily"}).status_code == 400
