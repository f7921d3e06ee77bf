"""The audit trail: its rows, its chain, and who may read it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from accounts import audit, services
from accounts.models import AuditEntry, AuditHead, Role, User
from accounts.tests.conftest import PASSWORD, bearer

AsUser = Callable[[User], APIClient]
AUDIT = "/api/v1/audit"


def trail() -> list[tuple[str, str, str]]:
    """Return who did what to which object, oldest first."""
    return list(AuditEntry.objects.order_by("id").values_list("actor", "action", "object_name"))


def tamper(**changes: Any) -> None:
    """Change the second row directly in the database."""
    drop_trigger("audit_append_only", "auditentry")
    audit._raw().filter(position=2).update(**changes)


def drop_trigger(name: str, table: str) -> None:
    """Do what only the owner of the database can do."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}" + (f" ON accounts_{table}" if connection.vendor == "postgresql" else ""))


@pytest.fixture
def three(root: User, ada: User) -> User:
    """Three rows, sealed."""
    with transaction.atomic():
        services.change_role(user=ada, role=Role.VIEWER)
        services.update_profile(user=ada, name="Ada King")
        audit.record("user.reactivated", ada)
    audit.seal()
    return ada


def test_a_change_is_recorded_with_who_what_and_from_where(as_user: AsUser, root: User, ada: User) -> None:
    answer = as_user(root).patch(
        f"/api/v1/users/{ada.pk}", {"role": "viewer", "name": "Ada King"}, REMOTE_ADDR="192.0.2.7"
    )

    changed, role = AuditEntry.objects.filter(action__startswith="user.").order_by("id")
    assert (changed.before, changed.after) == ({"name": "Ada"}, {"name": "Ada King"})
    assert (role.before, role.after) == ({"role": "user"}, {"role": "viewer"})
    assert (role.actor_id, role.actor, role.via, role.credential) == (root.pk, "root", "token", "")
    assert (role.object_type, role.object_id, role.object_name) == ("accounts.user", str(ada.pk), "ada")
    assert (role.address, role.request_id) == ("192.0.2.7", answer["X-Request-ID"])


def test_a_row_says_whether_a_key_or_a_session_acted(as_user: AsUser, root: User) -> None:
    made = as_user(root).post("/api/v1/api-keys", {"name": "k", "scopes": ["user:admin"]}).json()
    new = {"username": "grace", "email": "grace@example.com", "password": "battery staple 9"}
    bearer(made["key"]).post("/api/v1/users", new)
    browser = Client()
    browser.force_login(root)
    grace = User.objects.get(username="grace")
    browser.post("/admin/accounts/user/", {"action": "deactivate", "_selected_action": [grace.pk]})

    created, deactivated = AuditEntry.objects.filter(object_id=str(grace.pk)).exclude(
        action="user.signed_out_everywhere"
    )
    by = {entry.action: (entry.actor, entry.via, entry.credential) for entry in (created, deactivated)}
    assert by == {
        "user.created": ("root", "api_key", f"svops_{made['prefix']}_…"),
        "user.deactivated": ("root", "session", ""),
    }


def test_a_change_by_a_command_is_recorded_as_such(db: None) -> None:
    call_command("ensure_admin", stdout=StringIO())

    entry = AuditEntry.objects.get()
    assert (entry.action, entry.via, entry.address, entry.request_id) == ("user.created", "command", "", "")


def test_signing_in_and_out_is_recorded(api: APIClient, ada: User) -> None:
    tokens = services.sign_in(user=ada)
    api.post("/api/v1/auth/logout", {"refresh_token": tokens.refresh_token})

    assert trail() == [("ada", "auth.signed_in", "ada"), ("ada", "auth.signed_out", "ada")]


def test_signing_in_and_out_by_a_form_is_recorded(root: User) -> None:
    browser = Client()
    browser.post("/login", {"username": "root", "password": PASSWORD})
    browser.post("/logout")

    assert trail() == [("root", "auth.signed_in", "root"), ("root", "auth.signed_out", "root")]
    assert set(AuditEntry.objects.values_list("via", "address")) == {("session", "127.0.0.1")}


@pytest.mark.parametrize(
    ("path", "post"),
    [("/api/v1/auth/login", APIClient().post), ("/login", Client().post), ("/admin/login/", Client().post)],
)
def test_a_failed_sign_in_is_recorded_without_the_name_of_an_unknown_user(
    path: str, post: Callable[..., Any], root: User
) -> None:
    for name in ("root", "my password by mistake"):
        post(path, {"username": name, "password": "wrong"}, REMOTE_ADDR="192.0.2.7")

    rows = AuditEntry.objects.order_by("id").values_list(
        "actor", "via", "action", "object_type", "object_id", "object_name", "address"
    )
    assert list(rows) == [
        ("", "none", "auth.sign_in_failed", "accounts.user", object_id, object_name, "192.0.2.7")
        for object_id, object_name in ((str(root.pk), "root"), ("", "(unknown)"))
    ]


def test_a_refused_or_rolled_back_change_leaves_no_row(as_user: AsUser, root: User) -> None:
    client = as_user(root)
    before = AuditEntry.objects.count()

    assert client.patch(f"/api/v1/users/{root.pk}", {"name": "R", "role": "viewer"}).status_code == 409

    assert AuditEntry.objects.count() == before


def test_no_secret_is_in_the_trail(as_user: AsUser, root: User) -> None:
    made = as_user(root).post("/api/v1/api-keys", {"name": "k", "scopes": ["user:admin"]}).json()
    new = {"username": "grace", "email": "grace@example.com", "password": "battery staple 9"}
    bearer(made["key"]).post("/api/v1/users", new)

    everything = json.dumps(list(AuditEntry.objects.values()), default=str)
    assert "battery" not in everything
    assert made["key"].split("_", 2)[2] not in everything


def test_verifying_a_whole_trail_prints_its_head(three: User) -> None:
    out = StringIO()
    call_command("verify_audit", stdout=out)

    head = AuditHead.objects.get().hash
    assert out.getvalue() == f"3 rows, whole. Head: {head}\n"
    call_command("verify_audit", head=head, stdout=out)


@pytest.mark.parametrize(
    "changes",
    [{"actor": "eve"}, {"after": {"role": "admin"}}, {"at": "2020-01-01T00:00:00Z"}, {"hash": "0" * 64}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_row_breaks_the_trail_at_its_place(three: User, changes: dict[str, Any]) -> None:
    tamper(**changes)

    with pytest.raises(CommandError, match=r"row 2 was changed\. Whole rows before that: 1\."):
        call_command("verify_audit")


@pytest.mark.parametrize(("position", "why"), [(2, "row 2 is missing"), (3, "rows after 2 are missing")])
def test_a_removed_row_is_noticed(three: User, position: int, why: str) -> None:
    audit._raw().filter(position=position).delete()

    assert audit.verify().broken == why


def test_an_end_cut_off_together_with_the_head_is_found_with_an_earlier_head(three: User) -> None:
    kept = AuditHead.objects.get().hash
    audit._raw().filter(position=3).delete()
    last = AuditEntry.objects.get(position=2)
    drop_trigger("audit_head_forward", "audithead")
    AuditHead.objects.update(position=2, hash=last.hash)

    call_command("verify_audit", stdout=StringIO())
    with pytest.raises(CommandError, match="it does not contain the given head"):
        call_command("verify_audit", head=kept, stdout=StringIO())


def test_model_and_database_refuse_to_change_a_sealed_row(three: User) -> None:
    entry = AuditEntry.objects.order_by("id")[0]
    for change in (
        entry.save,
        entry.delete,
        lambda: AuditEntry.objects.update(actor="eve"),
        lambda: AuditEntry.objects.all().delete(),
    ):
        with pytest.raises(TypeError, match="append-only"):
            change()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        audit._raw().update(actor="eve")

    assert audit.verify().broken == ""


def test_rows_are_sealed_in_the_order_in_which_the_sealer_finds_them_committed(three: User) -> None:
    with transaction.atomic():
        audit.record("user.changed", three)
    assert AuditEntry.objects.filter(position__isnull=True).count() == 1

    audit.seal()
    audit.seal()

    assert list(AuditEntry.objects.order_by("id").values_list("position", flat=True)) == [1, 2, 3, 4]


@pytest.mark.django_db(transaction=True)
def test_a_row_is_sealed_with_the_commit_of_its_change(ada: User) -> None:
    services.sign_in(user=ada)

    assert AuditEntry.objects.get().position == 1


def test_only_callers_with_the_scope_read_the_trail(as_user: AsUser, root: User, ada: User, api: APIClient) -> None:
    assert as_user(root).get(AUDIT).status_code == 200
    assert as_user(ada).get(AUDIT).status_code == 403
    assert as_user(ada).get(f"{AUDIT}/export").status_code == 403
    assert api.get(AUDIT).status_code == 401
    assert as_user(root).delete(AUDIT).status_code == 405


def test_the_list_is_filtered(as_user: AsUser, root: User, three: User) -> None:
    client = as_user(root)

    def actions(query: str) -> list[str]:
        answer = client.get(f"{AUDIT}?{query}")
        assert answer.status_code == 200, answer.json()
        return [entry["action"] for entry in answer.json()["results"]]

    assert actions("action=user.role_changed") == ["user.role_changed"]
    assert set(actions("action=auth.")) == {"auth.signed_in"}
    assert actions(f"object_type=accounts.user&object_id={three.pk}")[-1] == "user.role_changed"
    assert actions("actor=nobody") == []
    assert actions("until=2020-01-01T00:00:00Z") == []


def test_the_export_has_every_row_in_both_formats(as_user: AsUser, root: User, three: User) -> None:
    AuditEntry.objects.create(
        at=AuditEntry.objects.order_by("id")[0].at, via="command", action="x.y", object_type="t", object_id="1",
        object_name="=HYPERLINK(1)",
    )  # fmt: skip
    client = as_user(root)

    lines = [json.loads(line) for line in client.get(f"{AUDIT}/export").getvalue().decode().splitlines()]
    answer = client.get(f"{AUDIT}/export?as=csv&action=x.y")
    (row,) = csv.DictReader(io.StringIO(answer.getvalue().decode()))

    assert [line["id"] for line in lines] == sorted(AuditEntry.objects.values_list("id", flat=True))
    assert answer["Content-Disposition"] == 'attachment; filename="audit.csv"'
    assert (row["action"], row["object_name"]) == ("x.y", "'=HYPERLINK(1)")
    assert client.get(f"{AUDIT}/export?as=xml").json()["errors"] == {"as": ["Expected csv or jsonl."]}


def test_operators_read_the_trail_but_cannot_change_it(root: User, three: User) -> None:
    operator = Client()
    operator.force_login(root)
    entry = AuditEntry.objects.order_by("id")[0]

    base = "/admin/accounts/auditentry/"
    assert [operator.get(path).status_code for path in (base, f"{base}{entry.pk}/change/")] == [200, 200]
    assert [operator.get(f"{base}{more}").status_code for more in ("add/", f"{entry.pk}/delete/")] == [403, 403]


def test_a_change_in_an_admin_form_is_recorded(root: User, ada: User) -> None:
    operator = Client()
    operator.force_login(root)
    form = {"username": "ada", "name": "Ada King", "email": "ada@example.com"}
    operator.post(f"/admin/accounts/user/{ada.pk}/change/", form)

    entry = AuditEntry.objects.get(action="user.changed")
    assert (entry.actor, entry.via, entry.object_name) == ("root", "session", "ada")
    assert entry.after is not None
    assert entry.after["name"] == "Ada King"
