"""Creating, using, rotating and revoking API keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts import services
from accounts.authentication import authenticate_token, refreshed
from accounts.identity import ROLE_SCOPES, Scope
from accounts.models import ApiKey, Role, User
from accounts.tests.conftest import PASSWORD, bearer
from accounts.tokens import InvalidTokenError, new_access_token

AsUser = Callable[[User], APIClient]
KEYS = "/api/v1/api-keys"


def make(client: APIClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(KEYS, {"name": "import", "scopes": ["workflow:read"]} | fields)
    assert answer.status_code == 201, answer.json()
    return dict(answer.json())


def status_of(key: str) -> int:
    return int(bearer(key).get("/api/v1/auth/me").status_code)


def test_a_key_is_shown_once_and_only_its_digest_is_kept(as_user: AsUser, ada: User) -> None:
    answer = as_user(ada).post(KEYS, {"name": "import", "scopes": ["run:trigger", "workflow:read"]})
    made, stored = answer.json(), ApiKey.objects.get()

    kind, prefix, secret = made["key"].split("_", 2)
    assert (kind, prefix) == ("svops", stored.prefix)
    assert len(secret) == 43  # 256 bits
    assert stored.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert answer["Cache-Control"] == "no-store"
    shown = as_user(ada).get(f"{KEYS}/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "key"}


def test_a_key_acts_for_its_user_with_its_scopes(as_user: AsUser, ada: User) -> None:
    key = make(as_user(ada), scopes=["run:trigger", "workflow:read"])["key"]

    me = bearer(key).get("/api/v1/auth/me").json()

    assert (me["username"], me["scopes"]) == ("ada", ["run:trigger", "workflow:read"])


def test_a_key_never_has_more_scopes_than_its_user_has_now(as_user: AsUser, ada: User) -> None:
    key = make(as_user(ada), scopes=sorted(ROLE_SCOPES[Role.USER]))["key"]

    services.change_role(user=ada, role=Role.VIEWER)

    assert bearer(key).get("/api/v1/auth/me").json()["scopes"] == ["workflow:read"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scopes": ["user:admin"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes.0"),
        ({"scopes": ["notification:write"], "workflow_ids": [1]}, "scopes"),
        ({"workflow_ids": []}, "workflow_ids"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires": "2030-01-01T00:00:00Z"}, "expires"),
    ],
)
def test_a_wrong_field_is_named_and_no_key_is_created(
    as_user: AsUser, ada: User, fields: dict[str, Any], field: str
) -> None:
    answer = as_user(ada).post(KEYS, {"name": "import", "scopes": ["workflow:read"]} | fields)

    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])
    assert not ApiKey.objects.exists()


def test_a_token_with_fewer_scopes_cannot_create_a_key_with_more(ada: User) -> None:
    services.sign_in(user=ada)
    token = new_access_token(ada.sign_ins.get())
    token["scopes"] = [Scope.WORKFLOW_READ]

    answer = bearer(str(token)).post(KEYS, {"name": "more", "scopes": ["run:trigger"]})

    assert answer.json()["errors"] == {"scopes": ["You do not have run:trigger yourself."]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", KEYS),
        ("post", KEYS),
        ("delete", f"{KEYS}/1"),
        ("post", f"{KEYS}/1/rotate"),
        ("patch", "/api/v1/auth/me"),
        ("post", "/api/v1/auth/change-password"),
        ("post", "/api/v1/auth/logout"),
    ],
)
def test_a_key_cannot_manage_keys_or_the_account(as_user: AsUser, root: User, method: str, path: str) -> None:
    key = make(as_user(root), scopes=sorted(Scope))["key"]

    assert getattr(bearer(key), method)(path, {}).status_code == 403


def test_keys_of_other_users_are_not_found(as_user: AsUser, ada: User, root: User) -> None:
    made = make(as_user(ada))
    others = as_user(root)

    assert others.get(KEYS).json()["results"] == []
    assert others.delete(f"{KEYS}/{made['id']}").status_code == 404
    assert others.post(f"{KEYS}/{made['id']}/rotate", {}).status_code == 404
    assert status_of(made["key"]) == 200


def test_both_secrets_of_a_rotated_key_are_valid_during_the_grace_time(as_user: AsUser, ada: User) -> None:
    ada_client = as_user(ada)
    old = make(ada_client)
    rotated = ada_client.post(f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 60})
    new = rotated.json()["key"]

    assert (rotated.status_code, status_of(old["key"]), status_of(new)) == (200, 200, 200)
    caller = authenticate_token(old["key"])
    assert caller.expires_at == ApiKey.objects.get().previous_until

    ApiKey.objects.update(previous_until=timezone.now())
    assert (status_of(old["key"]), status_of(new)) == (401, 200)


def test_a_rotation_without_grace_time_ends_the_old_secret_at_once(as_user: AsUser, ada: User) -> None:
    ada_client = as_user(ada)
    old = make(ada_client)
    new = ada_client.post(f"{KEYS}/{old['id']}/rotate", {"grace_seconds": 0}).json()["key"]

    assert (status_of(old["key"]), status_of(new)) == (401, 200)


def test_a_revoked_key_is_refused_at_once_and_cannot_be_rotated(as_user: AsUser, ada: User) -> None:
    made = make(as_user(ada))
    caller = authenticate_token(made["key"])

    assert as_user(ada).delete(f"{KEYS}/{made['id']}").status_code == 204

    assert status_of(made["key"]) == 401
    assert refreshed(caller) is None
    rotated = as_user(ada).post(f"{KEYS}/{made['id']}/rotate", {})
    assert (rotated.status_code, rotated.json()["code"]) == (409, "key_revoked")


def _end_by_expiry(ada: User) -> None:
    ApiKey.objects.update(expires_at=timezone.now())


@pytest.mark.parametrize(
    "end",
    [
        _end_by_expiry,
        lambda ada: services.deactivate(user=ada),
        lambda ada: services.sign_out_everywhere(user=ada),
    ],
    ids=["expired", "user deactivated", "signed out everywhere"],
)
def test_a_key_ends_when_it_expires_or_its_user_is_deactivated_or_signed_out(
    as_user: AsUser, ada: User, end: Callable[[User], None]
) -> None:
    key = make(as_user(ada))["key"]
    caller = authenticate_token(key)

    end(ada)

    assert status_of(key) == 401
    assert refreshed(caller) is None


def test_a_new_password_does_not_end_keys(as_user: AsUser, ada: User) -> None:
    key = make(as_user(ada))["key"]

    services.change_password(user=ada, current_password=PASSWORD, new_password="battery staple 9")

    assert status_of(key) == 200


@pytest.mark.parametrize("change", ["", "_", "_a_b", "x", "_ünicode_secret"])
def test_text_that_is_nearly_a_key_is_refused(as_user: AsUser, ada: User, change: str) -> None:
    key = make(as_user(ada))["key"]
    wrong = {"": key[:-1], "_": "svops_", "x": key + "x"}.get(change, f"svops{change}")

    with pytest.raises(InvalidTokenError):
        authenticate_token(wrong)


def test_a_key_costs_one_query_and_its_use_is_recorded_once_a_minute(
    as_user: AsUser, ada: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    key = make(as_user(ada))["key"]
    with django_assert_num_queries(2):
        authenticate_token(key)
    used_at = ApiKey.objects.get().last_used_at

    with django_assert_num_queries(1):
        authenticate_token(key)
    assert ApiKey.objects.get().last_used_at == used_at

    ApiKey.objects.update(last_used_at=timezone.now() - timedelta(seconds=61))
    with django_assert_num_queries(2):
        authenticate_token(key)


def test_operators_see_and_revoke_keys_but_cannot_create_them(as_user: AsUser, ada: User, root: User) -> None:
    made = make(as_user(ada))
    operator = Client()
    operator.force_login(root)

    pages = ["apikey/", f"apikey/{made['id']}/change/", "apikey/?q=ada"]
    assert [operator.get(f"/admin/accounts/{page}").status_code for page in pages] == [200, 200, 200]
    assert operator.get("/admin/accounts/apikey/add/").status_code == 403
    operator.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [made["id"]]})
    assert status_of(made["key"]) == 401
