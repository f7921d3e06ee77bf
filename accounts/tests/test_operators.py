"""Commands and admin pages."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts import services
from accounts.models import Role, SignIn, User
from accounts.tests.conftest import PASSWORD, bearer, everything


@pytest.fixture
def operator(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


@pytest.fixture(autouse=True)
def _no_admin_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USERNAME", "EMAIL", "PASSWORD"):
        monkeypatch.delenv(f"SVOPS_ADMIN_{name}", raising=False)


def ensure_admin() -> str:
    out = StringIO()
    call_command("ensure_admin", stdout=out)
    return out.getvalue().strip()


def test_createsuperuser_makes_an_admin(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)

    call_command("createsuperuser", username="boss", email="boss@example.com", interactive=False, verbosity=0)

    boss = User.objects.get()
    assert (boss.role, boss.is_staff, boss.is_superuser) == ("admin", True, True)
    assert boss.check_password(PASSWORD)


def test_ensure_admin_makes_up_a_password_and_prints_it_once(db: None) -> None:
    first, second = ensure_admin(), ensure_admin()

    words, _, password = first.rpartition(" ")
    admin = User.objects.get()
    assert words == "Created the administrator admin with the password"
    assert (admin.username, admin.role) == ("admin", "admin")
    assert admin.check_password(password)
    assert second == "There is an administrator already; nothing was changed."


def test_ensure_admin_uses_the_environment_and_does_not_print_its_password(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVOPS_ADMIN_USERNAME", "boss")
    monkeypatch.setenv("SVOPS_ADMIN_EMAIL", "boss@example.com")
    monkeypatch.setenv("SVOPS_ADMIN_PASSWORD", "chosen")

    assert ensure_admin() == "Created the administrator boss."
    boss = User.objects.get()
    assert (boss.username, boss.email, boss.check_password("chosen")) == ("boss", "boss@example.com", True)


def test_ensure_admin_never_resets_a_password(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVOPS_ADMIN_USERNAME", "root")
    monkeypatch.setenv("SVOPS_ADMIN_PASSWORD", "another")
    before = everything()

    ensure_admin()

    assert everything() == before


def test_ensure_admin_does_not_promote_a_user_with_the_same_name(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVOPS_ADMIN_USERNAME", "ada")
    before = everything()

    with pytest.raises(CommandError, match="'ada' cannot be created: A user with that username"):
        ensure_admin()

    assert everything() == before


@pytest.mark.parametrize(
    "page",
    [
        "user/",
        "user/?q=ada&role__exact=user&is_active__exact=1",
        "user/add/",
        "user/{ada}/change/",
        "user/{ada}/password/",
        "signin/",
        "signin/?q=ada&ended_at__isempty=1",
        "signin/{sign_in}/change/",
    ],
)
def test_each_admin_page_opens(operator: Client, ada: User, page: str) -> None:
    services.sign_in(user=ada)
    path = page.format(ada=ada.pk, sign_in=SignIn.objects.get().pk)

    assert operator.get(f"/admin/accounts/{path}").status_code == 200


@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
def test_the_admin_pages_are_closed_to_other_roles(db: None, role: Role) -> None:
    client = Client()
    client.force_login(User.objects.create_user("x", role=role))

    assert client.get("/admin/accounts/user/").status_code == 302


def act(operator: Client, model: str, action: str, *keys: object) -> None:
    data = {"action": action, "_selected_action": [str(key) for key in keys]}
    assert operator.post(f"/admin/accounts/{model}/", data).status_code == 302


def test_the_action_deactivate_ends_the_tokens_of_the_user(operator: Client, ada: User) -> None:
    token = services.sign_in(user=ada).access_token

    act(operator, "user", "deactivate", ada.pk)

    assert User.objects.get(pk=ada.pk).is_active is False
    assert bearer(token).get("/api/v1/auth/me").status_code == 401


def test_the_action_sign_out_everywhere_ends_tokens_and_sessions(operator: Client, ada: User) -> None:
    token, browser = services.sign_in(user=ada).access_token, APIClient()
    browser.force_login(ada)

    act(operator, "user", "sign_out_everywhere", ada.pk)

    assert bearer(token).get("/api/v1/auth/me").status_code == 401
    assert browser.get("/api/v1/auth/me").status_code == 401
    assert User.objects.get(pk=ada.pk).is_active is True


def test_the_actions_give_roles_but_keep_the_last_admin(operator: Client, root: User, ada: User) -> None:
    act(operator, "user", "make_viewer", ada.pk, root.pk)

    assert User.objects.get(pk=ada.pk).role == Role.VIEWER
    assert User.objects.get(pk=root.pk).role == Role.ADMIN


def test_the_action_end_ends_a_sign_in(operator: Client, ada: User) -> None:
    token = services.sign_in(user=ada).access_token

    act(operator, "signin", "end", SignIn.objects.get().pk)

    assert bearer(token).get("/api/v1/auth/me").status_code == 401


def test_a_user_added_on_the_admin_page_has_the_role_and_the_password(operator: Client) -> None:
    form = {
        "username": "max",
        "email": "max@example.com",
        "name": "Max",
        "role": "admin",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }

    assert operator.post("/admin/accounts/user/add/", form).status_code == 302

    added = User.objects.get(username="max")
    assert (added.role, added.is_superuser, added.check_password(PASSWORD)) == ("admin", True, True)


def test_the_user_form_of_the_admin_ignores_a_role(operator: Client, ada: User) -> None:
    form = {"username": "ada", "email": "ada@example.com", "name": "A", "role": "admin", "is_superuser": "on"}

    assert operator.post(f"/admin/accounts/user/{ada.pk}/change/", form).status_code == 302

    changed = User.objects.get(pk=ada.pk)
    assert (changed.name, changed.role, changed.is_superuser, changed.is_active) == ("A", "user", False, True)
