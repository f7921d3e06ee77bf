"""Which role a claim of the provider gives."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from accounts.models import AuditEntry, Role, User
from accounts.tests.conftest import bearer
from accounts.tests.provider import Provider
from accounts.tests.single_sign_on.steps import exchanged, stored


@pytest.fixture
def roles(settings: Settings) -> Settings:
    settings.OIDC_ROLE_CLAIM = "groups"
    settings.OIDC_ADMIN_VALUES, settings.OIDC_USER_VALUES = ["operators"], ["staff"]
    settings.OIDC_DEFAULT_ROLE = "viewer"
    return settings


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["operators", "staff"], "admin"),
        ("operators", "admin"),
        (["staff"], "user"),
        (["operator", "Operators", 7], "viewer"),
        ({"operators": 1}, "viewer"),
        (None, "viewer"),
    ],
)
def test_the_highest_role_that_a_value_gives_counts(
    db: None, sso: Provider, roles: Settings, groups: object, role: str
) -> None:
    assert exchanged(sso.signed(groups=groups)).json()["user"]["role"] == role


def test_without_a_role_claim_nobody_becomes_admin_and_a_given_role_stays(db: None, sso: Provider) -> None:
    first = exchanged(sso.signed(groups=["admin", "operators"], role="admin")).json()["user"]
    User.objects.filter(pk=first["id"]).update(role=Role.VIEWER)

    second = exchanged(sso.signed()).json()["user"]

    assert (first["role"], second["role"]) == ("user", "viewer")


def test_a_lower_role_counts_for_existing_tokens_from_the_next_sign_in_on(
    root: User, sso: Provider, roles: Settings
) -> None:
    before = bearer(exchanged(sso.signed(groups=["operators"])).json()["access_token"])
    assert before.get("/api/v1/users").status_code == 200

    exchanged(sso.signed(groups=["staff"]))

    assert before.get("/api/v1/users").status_code == 403
    change = AuditEntry.objects.get(action="user.role_changed")
    assert (change.object_name, change.before, change.after) == ("ada", {"role": "admin"}, {"role": "user"})


def test_the_last_admin_is_neither_demoted_nor_signed_in(db: None, sso: Provider, roles: Settings) -> None:
    exchanged(sso.signed(groups=["operators"]))
    before = stored()

    answer = exchanged(sso.signed(groups=[]))

    assert (answer.status_code, answer.json()["code"]) == (409, "last_admin")
    assert stored() == before
