"""Somebody who got into the database, or into the admin pages, tries to act without a trace."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django_celery_beat.models import PeriodicTask
from pytest_django import Settings

from accounts import audit, audit_witness
from accounts.models import AuditEntry, AuditHead, Role, User
from notifications.tests.receiver import Receiver, running
from tests.deploy.compose import REPOSITORY
from tests.live.conftest import new_user, new_workflow
from workflows import services
from workflows.models import Grant, Level

guards = import_module("accounts.migrations.0005_audit_guards")
TRIGGERS = {
    "audit_append_only": guards.ENTRY,
    "audit_no_delete": guards.ENTRY,
    "audit_head_forward": guards.HEAD,
    "audit_head_no_delete": guards.HEAD,
}
OnCommit = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    """Undo at the end what a test does to the trail."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def without_triggers() -> None:
    """Do what the owner of the database can do."""
    on_postgresql = connection.vendor == "postgresql"
    for name, table in TRIGGERS.items():
        execute(f"DROP TRIGGER IF EXISTS {name}" + (f" ON {table}" if on_postgresql else ""))


@pytest.fixture
def guarded() -> None:
    """The database as the migrations leave it; `conftest.py` lets the other tests empty it."""
    without_triggers()
    _, *create = {"sqlite": guards.sqlite, "postgresql": guards.postgresql}[connection.vendor]()
    for statement in create:
        execute(statement)


@pytest.fixture
def rows(root: User) -> list[AuditEntry]:
    """Three sealed rows, and one that is not sealed yet."""
    for _ in range(3):
        audit.record("user.reactivated", root)
    audit.seal()
    audit.record("user.reactivated", root)
    return list(AuditEntry.objects.order_by("-id")[:4])[::-1]


@pytest.fixture
def root() -> User:
    return new_user(Role.ADMIN)


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


ATTACKS = {
    "delete the last sealed row": "DELETE FROM accounts_auditentry WHERE id = {2}",
    "delete a row before it is sealed": "DELETE FROM accounts_auditentry WHERE id = {3}",
    "delete everything": "DELETE FROM accounts_auditentry",
    "change a sealed row": "UPDATE accounts_auditentry SET actor = 'eve' WHERE id = {0}",
    "change a row before it is sealed": "UPDATE accounts_auditentry SET actor = 'eve' WHERE id = {3}",
    "unseal a row": "UPDATE accounts_auditentry SET position = NULL WHERE id = {2}",
    "move the head back": "UPDATE accounts_audithead SET position = position - 1",
    "give the head another hash": "UPDATE accounts_audithead SET hash = 'x'",
    "delete the head": "DELETE FROM accounts_audithead",
}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_role_of_the_application_changes_and_deletes_no_row(attack: str, rows: list[AuditEntry]) -> None:
    """Before: 7 of these 9 passed; only changing a sealed row and taking its place away were refused."""
    before = list(AuditEntry.objects.values()), list(AuditHead.objects.values())

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        execute(ATTACKS[attack].format(*(row.pk for row in rows)))

    assert (list(AuditEntry.objects.values()), list(AuditHead.objects.values())) == before


@pytest.mark.usefixtures("guarded")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite knows no TRUNCATE")
def test_the_role_of_the_application_cannot_truncate_the_trail(rows: list[AuditEntry]) -> None:
    for table in (guards.ENTRY, guards.HEAD):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            execute(f"TRUNCATE {table}")


@pytest.mark.usefixtures("guarded")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite knows no roles")
@pytest.mark.parametrize(
    "attack", [*ATTACKS.values(), "TRUNCATE accounts_auditentry", "DROP TRIGGER audit_no_delete ON accounts_auditentry"]
)
def test_a_role_that_does_not_own_the_tables_cannot_remove_the_triggers_either(attack: str, root: User) -> None:
    execute("CREATE ROLE svops_app")
    execute((REPOSITORY / "deploy" / "postgres" / "app-role.sql").read_text())
    execute("SET LOCAL ROLE svops_app")
    for _ in range(3):
        audit.record("user.reactivated", root)
    audit.seal()
    rows = list(AuditEntry.objects.order_by("-id")[:3])[::-1]
    assert rows[2].position is not None

    # The sealer has to write places and the head, so there the triggers refuse.
    with pytest.raises(DatabaseError, match=r"permission denied|must be owner|append-only"), transaction.atomic():
        execute(attack.format(*(row.pk for row in [*rows, rows[2]])))


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Path:
    settings.AUDIT_HEAD_FILE = str(tmp_path / "audit-head")
    return tmp_path / "audit-head"


def cut(count: int) -> None:
    """Remove the last rows and move the head back: what is left is a whole chain."""
    without_triggers()
    head = AuditHead.objects.get()
    audit._raw().filter(position__gt=head.position - count).delete()
    last = AuditEntry.objects.get(position=head.position - count)
    AuditHead.objects.update(position=last.position, hash=last.hash)


@pytest.fixture
def three(root: User, kept: Path, django_capture_on_commit_callbacks: OnCommit) -> AuditHead:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            audit.record("user.reactivated", root)
    return AuditHead.objects.get()


def test_a_cut_end_is_noticed_without_an_argument(three: AuditHead, kept: Path) -> None:
    """Before: `verify_audit` called the trail whole; only somebody who had noted a head noticed."""
    assert json.loads(kept.read_text()) == {"position": three.position, "hash": three.hash}
    call_command("verify_audit", stdout=StringIO())

    cut(2)

    with pytest.raises(CommandError, match=f"row {three.position} is not the one whose hash is kept in {kept}"):
        call_command("verify_audit", stdout=StringIO())


def test_a_cut_end_is_still_noticed_when_the_trail_has_grown_beyond_it(
    three: AuditHead,
    kept: Path,
    root: User,
    django_capture_on_commit_callbacks: OnCommit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before: the new rows hid the cut from `verify_audit`, and nothing was logged."""
    cut(2)
    with caplog.at_level(logging.ERROR), django_capture_on_commit_callbacks(execute=True):
        for _ in range(5):
            audit.record("user.reactivated", root)

    assert json.loads(kept.read_text())["hash"] == three.hash, "the proof was overwritten"
    assert "audit trail cut: a head that was kept is missing" in caplog.messages
    assert audit.verify().broken != ""


def test_the_head_is_in_the_log_and_at_the_webhook(
    three: AuditHead, kept: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: the head was in the database alone."""
    with running(Receiver()) as receiver:
        settings.AUDIT_WEBHOOK_URL = receiver.url
        audit.witness()
        cut(2)
        audit.witness()

    whole, broken = (json.loads(received.body) for received in receiver.received)
    assert (whole["position"], whole["hash"], whole["whole"]) == (three.position, three.hash, True)
    assert (broken["position"], broken["whole"]) == (three.position - 2, False)
    with caplog.at_level(logging.INFO):
        audit_witness.keep(audit_witness.Head(position=three.position, hash=three.hash))
    (line,) = (record for record in caplog.records if record.message == "audit trail sealed")
    assert (vars(line)["position"], vars(line)["hash"]) == (three.position, three.hash)


def test_a_head_that_cannot_be_kept_does_not_stop_the_change(
    root: User, settings: Settings, django_capture_on_commit_callbacks: OnCommit
) -> None:
    settings.AUDIT_HEAD_FILE = "/dev/null/audit-head"
    with django_capture_on_commit_callbacks(execute=True):
        audit.record("user.reactivated", root)

    assert AuditEntry.objects.order_by("id").reverse()[0].position is not None


# --- What operators enter ---------------------------------------------------------------------------------


def last(action: str) -> tuple[str, Any, Any]:
    entry = AuditEntry.objects.filter(action=action).order_by("-id")[0]
    return entry.object_name, entry.before, entry.after


def test_a_group_and_its_members_are_recorded_before_and_after(operator: Client) -> None:
    """Before: none of these left a row."""
    ada, eve = new_user(), new_user()
    names = sorted([ada.username, eve.username])
    operator.post("/admin/auth/group/add/", {"name": "analysts", "members": [ada.pk, eve.pk]})
    group = Group.objects.get(name="analysts")
    assert last("group.created") == ("analysts", None, {"name": "analysts", "members": names})

    form = {"username": eve.username, "email": "", "name": "", "groups": []}
    operator.post(f"/admin/accounts/user/{eve.pk}/change/", form | {"email": "eve@example.com"})
    assert last("group.changed") == ("analysts", {"members": names}, {"members": [ada.username]})

    operator.post(f"/admin/auth/group/{group.pk}/change/", {"name": "readers", "members": [eve.pk]})
    changed = {"name": "readers", "members": [eve.username]}
    assert last("group.changed") == ("readers", {"name": "analysts", "members": [ada.username]}, changed)

    workflow = new_workflow(ada)
    services.grant(workflow=workflow, actor=ada, level=Level.RUN, group=group)
    operator.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})
    grants = {"workflows.grant": [f"readers: run on {workflow}"]}
    assert last("group.deleted") == ("readers", changed | grants, None)
    assert not Grant.objects.filter(workflow=workflow).exists()


def test_a_changed_grant_is_recorded_with_the_name_and_the_level_before() -> None:
    """Before: the row of a new level did not say which level it replaced."""
    ada, eve = new_user(), new_user()
    workflow = new_workflow(ada)
    services.grant(workflow=workflow, actor=ada, level=Level.VIEW, user=eve)
    services.grant(workflow=workflow, actor=ada, level=Level.MANAGE, user=eve)

    who = {"user": eve.username, "group": None}
    assert last("workflow.granted") == (str(workflow), {**who, "level": "view"}, {**who, "level": "manage"})


def test_a_deleted_user_takes_grants_along_and_the_row_names_them(operator: Client) -> None:
    """Before: the row of a deleted user named neither the grants nor the keys that went with it."""
    ada, eve = new_user(), new_user()
    workflow = new_workflow(ada)
    services.grant(workflow=workflow, actor=ada, level=Level.RUN, user=eve)
    operator.post(f"/admin/accounts/user/{eve.pk}/delete/", {"post": "yes"})

    name, before, _ = last("user.deleted")
    assert (name, before["username"]) == (eve.username, eve.username)
    assert before["workflows.grant"] == [f"{eve.username}: run on {workflow}"]


def test_periodic_tasks_are_recorded(operator: Client) -> None:
    """Before: an operator could stop the clean-up, or all deliveries, without a row."""
    task = PeriodicTask.objects.get(name="Clean up")
    pages = "/admin/django_celery_beat/periodictask/"
    for action, before, after in (
        ("disable_tasks", True, False),
        ("enable_tasks", False, True),
        ("toggle_tasks", True, False),
    ):
        operator.post(pages, {"action": action, "_selected_action": [task.pk]})
        changed = ({"enabled": before}, {"enabled": after})
        assert last("periodic_task.changed")[1:] == changed, action

    operator.post(f"{pages}{task.pk}/delete/", {"post": "yes"})
    _, deleted, _ = last("periodic_task.deleted")
    assert (deleted["name"], deleted["task"]) == ("Clean up", "svops.tasks.cleanup")
