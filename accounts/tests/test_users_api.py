"""Administrators and the accounts of others."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.models import User
from accounts.tests.conftest import PASSWORD, everything

USERS = "/api/v1/users"
ME = "/api/v1/auth/me"
AsUser = Callable[[User], APIClient]


def test_the_list_is_paged_searched_filtered_and_ordered(as_user: AsUser, root: User, ada: User, vera: User) -> None:
    client = as_user(root)

    def names(query: str) -> list[str]:
        return [user["username"] for user in client.get(f"{USERS}?{query}").json()["results"]]

    assert client.get(USERS).json()["count"] == 3
    assert names("ordering=username") == ["ada", "root", "vera"]
    assert names("role=viewer") == ["vera"]
    assert names("is_active=false") == []
    assert names("search=ADA") == ["ada"]
    assert names("ordering=-username&page_size=1&page=2") == ["root"]


def test_a_list_of_any_length_costs_three_queries(
    as_user: AsUser, root: User, ada: User, vera: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = as_user(root)

    with django_assert_num_queries(3):  # the token, the count, the page
        client.get(USERS)


def test_an_admin_creates_a_user_with_a_role(as_user: AsUser, root: User) -> None:
    new = {"username": "max", "email": "max@example.com", "password": PASSWORD, "role": "viewer"}

    answer = as_user(root).post(USERS, new)

    assert (answer.status_code, answer.json()["role"]) == (201, "viewer")
    created = User.objects.get(username="max")
    assert created.check_password(PASSWORD)
    assert "password" not in answer.json()


@pytest.mark.parametrize(
    ("change", "field"),
    [({"role": "king"}, "role"), ({"username": "root"}, "username"), ({"password": "1"}, "password")],
)
def test_a_wrong_field_creates_no_user(as_user: AsUser, root: User, change: dict[str, str], field: str) -> None:
    client = as_user(root)
    new = {"username": "max", "email": "max@example.com", "password": PASSWORD}
    before = everything()

    answer = client.post(USERS, {**new, **change})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert everything() == before


def test_a_new_role_counts_at_once_for_existing_tokens(as_user: AsUser, root: User, ada: User) -> None:
    admin, client = as_user(root), as_user(ada)

    up = admin.patch(f"{USERS}/{ada.pk}", {"role": "admin"})
    as_admin = client.get(USERS)
    admin.patch(f"{USERS}/{ada.pk}", {"role": "viewer"})

    assert (up.status_code, up.json()["role"]) == (200, "admin")
    assert as_admin.status_code == 200
    assert client.get(USERS).status_code == 403
    assert client.get(ME).json()["scopes"] == ["workflow:read"]
    ada.refresh_from_db()
    assert (ada.is_staff, ada.is_superuser) == (False, False)


def test_deactivating_a_user_ends_tokens_and_sessions_for_good(as_user: AsUser, root: User, ada: User) -> None:
    admin, client, browser = as_user(root), as_user(ada), APIClient()
    browser.force_login(ada)

    answer = admin.patch(f"{USERS}/{ada.pk}", {"is_active": False})
    while_shut = client.get(ME)
    admin.patch(f"{USERS}/{ada.pk}", {"is_active": True})

    assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert (while_shut.status_code, while_shut["WWW-Authenticate"]) == (401, "Bearer")
    assert client.get(ME).status_code == 401
    assert browser.get(ME).status_code == 401
    assert as_user(User.objects.get(pk=ada.pk)).get(ME).status_code == 200


@pytest.mark.parametrize("change", [{"role": "user"}, {"is_active": False}, {"name": "x", "role": "viewer"}])
def test_the_last_admin_cannot_be_removed(as_user: AsUser, root: User, change: dict[str, object]) -> None:
    client = as_user(root)
    before = everything()

    answer = client.patch(f"{USERS}/{root.pk}", change)

    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert everything() == before


def test_one_of_two_admins_can_be_removed(as_user: AsUser, root: User, ada: User) -> None:
    client = as_user(root)
    client.patch(f"{USERS}/{ada.pk}", {"role": "admin"})

    assert client.patch(f"{USERS}/{root.pk}", {"role": "user"}).status_code == 200
    assert client.get(USERS).status_code == 403


@pytest.mark.parametrize("key", ["0", "999999", "9" * 30, "-1", "abc"])
def test_an_unknown_user_is_404(as_user: AsUser, root: User, key: str) -> None:
    client = as_user(root)

    for answer in (client.get(f"{USERS}/{key}"), client.patch(f"{USERS}/{key}", {"role": "user"})):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["put", "delete"])
def test_an_unsupported_method_is_405(as_user: AsUser, root: User, ada: User, method: str) -> None:
    client = as_user(root)
    before = everything()

    answer = getattr(client, method)(f"{USERS}/{ada.pk}")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert everything() == before


@pytest.mark.parametrize(
    ("path", "status"),
    [(USERS, 200), (ME, 200), ("/api/v1/auth/login", 405), ("/api/v1/auth/change-password", 405)],
)
def test_a_browser_gets_a_page_of_the_browsable_api(root: User, path: str, status: int) -> None:
    browser = APIClient()
    browser.force_login(root)

    answer = browser.get(path, HTTP_ACCEPT="text/html")

    assert (answer.status_code, answer["Content-Type"]) == (status, "text/html; charset=utf-8")


@pytest.mark.parametrize(("path", "status"), [(USERS, 403), (ME, 200)])
def test_a_browser_of_a_viewer_gets_a_page_with_the_refusal(vera: User, path: str, status: int) -> None:
    browser = APIClient()
    browser.force_login(vera)

    assert browser.get(path, HTTP_ACCEPT="text/html").status_code == status


def test_a_slash_at_the_end_of_a_path_makes_no_difference(as_user: AsUser, root: User) -> None:
    client = as_user(root)

    assert client.get(f"{USERS}/{root.pk}/").json() == client.get(f"{USERS}/{root.pk}").json()
