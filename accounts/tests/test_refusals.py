"""Every endpoint that needs a caller refuses every bad credential and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from django.conf import settings
from rest_framework.test import APIClient

from accounts import services
from accounts.identity import ROLE_SCOPES
from accounts.models import Role, SignIn, User
from accounts.tests.conftest import PASSWORD, everything
from accounts.tokens import new_access_token

NEW = {"username": "max", "email": "max@example.com", "password": PASSWORD, "role": "admin"}
PASSWORDS = {"current_password": PASSWORD, "new_password": "battery staple 9"}
ENDPOINTS: list[tuple[str, str, dict[str, Any]]] = [
    ("get", "/api/v1/auth/me", {}),
    ("patch", "/api/v1/auth/me", {"name": "Mallory"}),
    ("post", "/api/v1/auth/change-password", PASSWORDS),
    ("post", "/api/v1/auth/logout", {}),
    ("get", "/api/v1/users", {}),
    ("post", "/api/v1/users", NEW),
    ("get", "/api/v1/users/{root}", {}),
    ("patch", "/api/v1/users/{root}", {"name": "Mallory"}),
]
ADMIN_ONLY = [endpoint for endpoint in ENDPOINTS if "/users" in endpoint[1]]


def _forged(user: User, *, key: str | None = None, algorithm: str = "HS256", **claims: Any) -> str:
    good = services.sign_in(user=user).access_token
    payload = jwt.decode(good, options={"verify_signature": False})
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    return jwt.encode(payload, key or settings.SECRET_KEY, algorithm=algorithm)


def _unsigned(user: User) -> str:
    payload = jwt.decode(services.sign_in(user=user).access_token, options={"verify_signature": False})
    return jwt.encode(payload, "", algorithm="none")


def _expired(user: User) -> str:
    token = new_access_token(SignIn.objects.get(pk=_sign_in_id(user)))
    token.set_exp(lifetime=-timedelta(seconds=1))
    return str(token)


def _sign_in_id(user: User) -> str:
    token = services.sign_in(user=user).access_token
    return str(jwt.decode(token, options={"verify_signature": False})["sid"])


def _logged_out(user: User) -> str:
    tokens = services.sign_in(user=user)
    services.logout(refresh_token=tokens.refresh_token)
    return tokens.access_token


def _signed_out_everywhere(user: User) -> str:
    token = services.sign_in(user=user).access_token
    services.sign_out_everywhere(user=user)
    return token


def _of_another_user(user: User) -> str:
    other = User.objects.create_user("mallory", "mallory@example.com", PASSWORD)
    return _forged(other, sub=str(user.pk))


# All are made for an administrator, so an accepted one would open everything.
BAD_TOKENS: dict[str, Callable[[User], str]] = {
    "nothing after Bearer": lambda user: "",
    "two words": lambda user: "a b",
    "nonsense": lambda user: "a.b.c",
    "not ASCII": lambda user: "é.ü.ñ",
    "very long": lambda user: "x" * 100_000,
    "unsigned": _unsigned,
    "wrong key": lambda user: _forged(user, key="another key, which is long enough for HS256"),
    "wrong algorithm": lambda user: _forged(user, algorithm="HS384"),
    "wrong audience": lambda user: _forged(user, aud="elsewhere"),
    "no audience": lambda user: _forged(user, aud=None),
    "wrong issuer": lambda user: _forged(user, iss="elsewhere"),
    "no expiry": lambda user: _forged(user, exp=None),
    "no kind": lambda user: _forged(user, token_type=None),
    "no scopes": lambda user: _forged(user, scopes=None),
    "unknown role": lambda user: _forged(user, role="king"),
    "unknown sign-in": lambda user: _forged(user, sid=str(uuid4())),
    "no sign-in": lambda user: _forged(user, sid=None),
    "another's sign-in": _of_another_user,
    "a refresh token": lambda user: services.sign_in(user=user).refresh_token,
    "logged out": _logged_out,
    "signed out everywhere": _signed_out_everywhere,
    "expired": _expired,
}


def _send(client: APIClient, endpoint: tuple[str, str, dict[str, Any]], root: User) -> Any:
    method, path, body = endpoint
    return getattr(client, method)(path.format(root=root.pk), body)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e[0]} {e[1]}")
@pytest.mark.parametrize("header", [None, "", "Basic cm9vdDpyb290", "Token abc"])
def test_without_a_bearer_token_everything_is_401(
    api: APIClient, root: User, endpoint: tuple[str, str, dict[str, Any]], header: str | None
) -> None:
    if header is not None:
        api.credentials(HTTP_AUTHORIZATION=header)
    before = everything()

    answer = _send(api, endpoint, root)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == "not_authenticated"
    assert everything() == before


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e[0]} {e[1]}")
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_is_401_everywhere(
    api: APIClient, root: User, endpoint: tuple[str, str, dict[str, Any]], kind: str
) -> None:
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {BAD_TOKENS[kind](root)}")
    before = everything()

    answer = _send(api, endpoint, root)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == ("token_expired" if kind == "expired" else "invalid_token")
    assert everything() == before


@pytest.mark.parametrize("endpoint", ADMIN_ONLY, ids=lambda e: f"{e[0]} {e[1]}")
@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
@pytest.mark.parametrize("by", ["token", "session"])
def test_other_roles_get_403_on_the_accounts_of_others(
    root: User, endpoint: tuple[str, str, dict[str, Any]], role: Role, by: str
) -> None:
    user = User.objects.create_user("max2", "max2@example.com", PASSWORD, role=role)
    client = APIClient()
    if by == "session":
        client.force_login(user)
    else:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {services.sign_in(user=user).access_token}")
    before = everything()

    answer = _send(client, endpoint, root)

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert answer.json()["detail"] == "This needs the scope user:admin."
    assert everything() == before


def test_a_token_with_fewer_scopes_than_its_role_has_only_those(root: User) -> None:
    narrowed = _forged(root, scopes=sorted(ROLE_SCOPES[Role.ADMIN] - {"user:admin"}))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {narrowed}")

    assert client.get("/api/v1/users").status_code == 403
    assert "user:admin" not in client.get("/api/v1/auth/me").json()["scopes"]


def test_a_token_cannot_claim_more_than_the_role_of_its_user(root: User, vera: User) -> None:
    claimed = _forged(vera, role="admin", scopes=sorted(ROLE_SCOPES[Role.ADMIN]))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {claimed}")

    assert client.get("/api/v1/users").status_code == 403
