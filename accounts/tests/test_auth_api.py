"""Registering, signing in and out, refreshing, and the own profile, through HTTP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.conf import settings as django_settings
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import SignIn, User
from accounts.tests.conftest import PASSWORD, bearer, everything

NEW = {"username": "grace", "email": "grace@example.com", "name": "Grace Hopper", "password": PASSWORD}
USER_SCOPES = ["notification:write", "run:control", "run:trigger", "workflow:read", "workflow:write"]
ME = "/api/v1/auth/me"


def login(api: APIClient, username: str, password: str = PASSWORD) -> Any:
    return api.post("/api/v1/auth/login", {"username": username, "password": password})


def refresh(api: APIClient, token: str) -> Any:
    return api.post("/api/v1/auth/refresh", {"refresh_token": token})


def test_registering_makes_a_user_and_signs_them_in(api: APIClient, db: None) -> None:
    answer = api.post("/api/v1/auth/register", NEW)

    body = answer.json()
    assert answer.status_code == 201
    assert sorted(body) == ["access_token", "expires_in", "refresh_token", "token_type", "user"]
    assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
    grace = User.objects.get()
    assert body["user"] == {
        "id": grace.pk,
        "username": "grace",
        "email": "grace@example.com",
        "name": "Grace Hopper",
        "role": "user",
        "is_active": True,
        "date_joined": grace.date_joined.isoformat().replace("+00:00", "Z"),
        "last_login": body["user"]["last_login"],
    }
    assert answer["Cache-Control"] == "no-store"
    assert bearer(body["access_token"]).get(ME).json()["scopes"] == USER_SCOPES


def test_asking_for_a_role_at_registration_is_refused(api: APIClient, db: None) -> None:
    wish = {**NEW, "role": "admin", "is_staff": True, "is_superuser": True}

    answer = api.post("/api/v1/auth/register", wish)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["is_staff", "is_superuser", "role"])
    assert User.objects.count() == 0


def test_closed_registration_refuses_everybody(api: APIClient, db: None, settings: Settings) -> None:
    settings.REGISTRATION = "closed"

    answer = api.post("/api/v1/auth/register", NEW)

    assert (answer.status_code, answer.json()["code"]) == (403, "registration_closed")
    assert everything() == []


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"username": None}, "username", "This field may not be null."),
        ({"username": "a b"}, "username", None),
        ({"username": "\ufdfa"}, "username", None),
        ({"username": "ADA"}, "username", "A user with that username already exists."),
        ({"email": "Ada@Example.com"}, "email", "A user with that email address already exists."),
        ({"email": "nowhere"}, "email", "Enter a valid email address."),
        ({"password": "short"}, "password", None),
        ({"password": "password123"}, "password", "This password is too common."),
        ({"password": "grace@example"}, "password", "The password is too similar to the email address."),
        ({"password": "x" * 129}, "password", "Ensure this field has no more than 128 characters."),
        ({"name": "x" * 151}, "name", "Ensure this field has no more than 150 characters."),
    ],
)
def test_a_wrong_field_of_a_registration_is_named_and_no_account_is_created(
    api: APIClient, ada: User, change: dict[str, Any], field: str, message: str | None
) -> None:
    before = everything()

    answer = api.post("/api/v1/auth/register", {**NEW, **change})

    body = answer.json()
    assert (answer.status_code, body["code"], list(body["errors"])) == (400, "invalid", [field])
    assert message is None or message in body["errors"][field]
    assert everything() == before


@pytest.mark.parametrize("raw", ["{", "[]", '"text"', "null", ""])
@pytest.mark.parametrize("path", ["register", "login", "refresh"])
def test_a_body_that_is_not_an_object_is_refused(api: APIClient, ada: User, path: str, raw: str) -> None:
    before = everything()

    answer = api.post(f"/api/v1/auth/{path}", raw, content_type="application/json")

    assert answer.status_code == 400
    assert everything() == before


def test_the_token_of_a_login_contains_the_scopes_of_the_role(api: APIClient, ada: User) -> None:
    answer = login(api, "ada")

    claims = jwt.decode(
        answer.json()["access_token"],
        django_settings.SECRET_KEY,
        algorithms=["HS256"],
        audience="svops",
        issuer="svops",
    )
    assert answer.status_code == 200
    assert (claims["sub"], claims["token_type"]) == (str(ada.pk), "access")
    assert (claims["role"], claims["scopes"]) == ("user", USER_SCOPES)
    assert claims["exp"] - claims["iat"] == 900


def test_an_unknown_user_a_wrong_password_and_a_deactivated_account_get_the_same_answer(
    api: APIClient, ada: User, vera: User
) -> None:
    User.objects.filter(pk=vera.pk).update(is_active=False)
    before = everything()

    answers = [login(api, "nobody"), login(api, "ada", "wrong password"), login(api, "vera")]

    for answer in answers:
        body = answer.json()
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
        assert (body["code"], body["detail"]) == (
            "invalid_credentials",
            "The username or the password is wrong.",
        )
    assert everything() == before


def test_an_unknown_user_takes_as_long_as_a_wrong_password(api: APIClient, db: None, settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    User.objects.create_user("ada", "ada@example.com", PASSWORD)
    login(api, "ada", "wrong password")
    times: dict[str, list[float]] = {"ada": [], "nobody": []}

    for _ in range(5):
        for username, taken in times.items():
            began = time.process_time()
            login(api, username, "wrong password")
            taken.append(time.process_time() - began)

    assert statistics.median(times["nobody"]) == pytest.approx(statistics.median(times["ada"]), rel=0.4)


def test_refresh_gives_working_tokens_and_ends_the_old_refresh_token(api: APIClient, ada: User) -> None:
    first = login(api, "ada").json()

    second = refresh(api, first["refresh_token"])

    assert second.status_code == 200
    assert sorted(second.json()) == sorted(first)
    assert bearer(second.json()["access_token"]).get(ME).status_code == 200
    assert second.json()["refresh_token"] != first["refresh_token"]
    assert SignIn.objects.count() == 1


def test_a_reused_refresh_token_ends_its_family(api: APIClient, ada: User) -> None:
    stolen = login(api, "ada").json()
    other_sign_in = login(api, "ada").json()
    renewed = refresh(api, stolen["refresh_token"]).json()

    reused = refresh(api, stolen["refresh_token"])

    assert (reused.status_code, reused.json()["code"]) == (401, "invalid_token")
    assert reused["WWW-Authenticate"] == "Bearer"
    assert refresh(api, renewed["refresh_token"]).status_code == 401
    assert bearer(renewed["access_token"]).get(ME).status_code == 401
    assert bearer(other_sign_in["access_token"]).get(ME).status_code == 200
    assert SignIn.objects.filter(end_reason="reuse").count() == 1


def test_an_access_token_does_not_refresh(api: APIClient, ada: User) -> None:
    tokens = login(api, "ada").json()
    before = everything()

    answer = refresh(api, tokens["access_token"])

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert everything() == before


def test_an_old_token_in_the_header_does_not_prevent_a_login(ada: User) -> None:
    assert login(bearer("stale"), "ada").status_code == 200


def test_logout_ends_its_own_sign_in_at_once_and_no_other(api: APIClient, ada: User) -> None:
    here, there = login(api, "ada").json(), login(api, "ada").json()

    answer = bearer(here["access_token"]).post("/api/v1/auth/logout")

    assert (answer.status_code, answer.content) == (204, b"")
    assert bearer(here["access_token"]).get(ME).status_code == 401
    assert refresh(api, here["refresh_token"]).status_code == 401
    assert bearer(there["access_token"]).get(ME).status_code == 200


def test_logout_by_refresh_token_needs_no_access_token(api: APIClient, ada: User) -> None:
    tokens = login(api, "ada").json()

    answer = api.post("/api/v1/auth/logout", {"refresh_token": tokens["refresh_token"]})

    assert answer.status_code == 204
    assert bearer(tokens["access_token"]).get(ME).status_code == 401


@pytest.mark.parametrize("body", [{}, {"refresh_token": "nonsense"}])
def test_logout_without_a_valid_token_is_refused(api: APIClient, ada: User, body: dict[str, str]) -> None:
    login(api, "ada")
    before = everything()

    answer = api.post("/api/v1/auth/logout", body)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert everything() == before


def test_me_returns_the_user_and_the_scopes(as_user: Callable[[User], APIClient], vera: User) -> None:
    answer = as_user(vera).get(ME)

    assert answer.status_code == 200
    body = answer.json()
    assert (body["username"], body["role"], body["scopes"]) == ("vera", "viewer", ["workflow:read"])


def test_me_changes_name_and_address_and_nothing_else(as_user: Callable[[User], APIClient], ada: User) -> None:
    client, wish, before = as_user(ada), {"name": "Ada King", "email": "king@example.com"}, everything()

    refused = client.patch(ME, {**wish, "role": "admin", "username": "root"})
    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["role", "username"])
    assert everything() == before

    assert client.patch(ME, wish).status_code == 200
    ada.refresh_from_db()
    assert (ada.name, ada.email, ada.role, ada.username) == ("Ada King", "king@example.com", "user", "ada")


def test_the_address_of_another_user_cannot_be_taken(
    as_user: Callable[[User], APIClient], ada: User, vera: User
) -> None:
    client = as_user(ada)
    before = everything()

    answer = client.patch(ME, {"email": "VERA@example.com"})

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["email"])
    assert everything() == before


def test_a_new_password_ends_every_other_session_and_keeps_this_one(api: APIClient, ada: User) -> None:
    here, there = login(api, "ada").json(), login(api, "ada").json()
    browser = APIClient()
    browser.force_login(ada)
    change = {"current_password": PASSWORD, "new_password": "battery staple 9"}

    answer = bearer(here["access_token"]).post("/api/v1/auth/change-password", change)

    assert answer.status_code == 204
    assert bearer(here["access_token"]).get(ME).status_code == 200
    assert refresh(api, here["refresh_token"]).status_code == 200
    assert bearer(there["access_token"]).get(ME).status_code == 401
    assert refresh(api, there["refresh_token"]).status_code == 401
    assert browser.get(ME).status_code == 401
    assert login(api, "ada").status_code == 401
    assert login(api, "ada", "battery staple 9").status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"current_password": "wrong password", "new_password": "battery staple 9"}, "current_password"),
        ({"current_password": PASSWORD, "new_password": "12345678"}, "new_password"),
        ({"current_password": PASSWORD}, "new_password"),
    ],
)
def test_a_refused_change_of_password_changes_nothing(
    as_user: Callable[[User], APIClient], ada: User, change: dict[str, str], field: str
) -> None:
    client = as_user(ada)
    before = everything()

    answer = client.post("/api/v1/auth/change-password", change)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert everything() == before


def test_a_session_cookie_has_the_scopes_of_the_role(root: User) -> None:
    browser = APIClient()
    browser.force_login(root)

    answer = browser.get(ME)

    assert answer.status_code == 200
    assert "user:admin" in answer.json()["scopes"]


def test_a_session_cookie_without_the_csrf_token_cannot_write(ada: User) -> None:
    browser = APIClient(enforce_csrf_checks=True)
    browser.force_login(ada)
    before = everything()

    answer = browser.patch(ME, {"name": "Mallory"})

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert everything() == before


def test_a_browser_that_changes_its_password_stays_signed_in(ada: User) -> None:
    browser = APIClient()
    browser.force_login(ada)
    change = {"current_password": PASSWORD, "new_password": "battery staple 9"}

    assert browser.post("/api/v1/auth/change-password", change).status_code == 204
    assert browser.get(ME).status_code == 200


def test_logout_ends_a_browser_session(ada: User) -> None:
    browser = APIClient()
    browser.force_login(ada)

    assert browser.post("/api/v1/auth/logout").status_code == 204
    assert browser.get(ME).status_code == 401
