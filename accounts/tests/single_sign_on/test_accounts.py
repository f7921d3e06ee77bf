"""Which account an identity gets: its own, a new one, never that of somebody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth import get_user
from django.db import connection
from django.test import Client
from pytest_django import Settings

from accounts import identities, oidc, services
from accounts.models import AuditEntry, Identity, Role, User
from accounts.tests.provider import Provider
from accounts.tests.single_sign_on.steps import audited, exchanged, problem, signed_in, stored


@pytest.mark.parametrize(
    "local",
    [
        {"username": "ada", "email": "other@example.com"},
        {"username": "ADA", "email": ""},
        {"username": "other", "email": "Ada@Example.com"},
    ],
    ids=["the name", "the name in capitals", "the address"],
)
def test_an_account_that_has_the_name_or_address_is_not_taken_over(
    db: None, sso: Provider, local: dict[str, str]
) -> None:
    User.objects.create_user(**local, password="correct horse", role=Role.ADMIN)
    before = stored()

    answer = exchanged(sso.signed(email_verified=True))

    assert (answer.status_code, answer.json()["code"]) == (409, "account_exists")
    assert stored() == before


def test_a_person_signs_in_to_the_account_that_an_operator_linked(
    ada: User, root: User, sso: Provider, client: Client
) -> None:
    client.force_login(root)
    page = client.get("/admin/accounts/identity/add/")
    assert page.context["adminform"].form.initial["issuer"] == sso.issuer

    added = client.post("/admin/accounts/identity/add/", {"user": ada.pk, "issuer": sso.issuer, "subject": "ada-7"})

    assert added.status_code == 302
    assert exchanged(sso.signed()).json()["user"]["id"] == ada.pk
    assert audited("identity.linked") == [
        ("identity.linked", "root", {"username": "ada", "issuer": sso.issuer, "subject": "ada-7"})
    ]


def test_a_subject_is_linked_to_one_user_at_most(
    ada: User, vera: User, root: User, sso: Provider, client: Client
) -> None:
    identities.link(user=ada, issuer=sso.issuer, subject="7")
    client.force_login(root)
    before = stored()

    refused = client.post("/admin/accounts/identity/add/", {"user": vera.pk, "issuer": sso.issuer, "subject": "7"})

    assert refused.status_code == 200
    assert stored() == before


@pytest.mark.parametrize("way", ["page", "list"])
def test_an_unlinked_subject_is_a_stranger(ada: User, root: User, sso: Provider, client: Client, way: str) -> None:
    identity = identities.link(user=ada, issuer=sso.issuer, subject="ada-7")
    client.force_login(root)

    if way == "page":
        client.post(f"/admin/accounts/identity/{identity.pk}/delete/", {"post": "yes"})
    else:
        data = {"action": "delete_selected", "_selected_action": [identity.pk], "post": "yes"}
        client.post("/admin/accounts/identity/", data)

    assert AuditEntry.objects.get(action="identity.unlinked").before == {
        "username": "ada",
        "issuer": sso.issuer,
        "subject": "ada-7",
    }
    assert exchanged(sso.signed()).json()["code"] == "account_exists"


def test_the_person_of_a_deactivated_account_stays_out(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    services.deactivate(user=User.objects.get())
    client, before = Client(), stored()

    page = signed_in(client, sso)
    answer = exchanged(sso.id_token("grace"))

    assert (page.status_code, problem(page)) == (403, "This account is deactivated; ask an administrator.")
    assert (answer.status_code, answer.json()["code"]) == (403, "account_inactive")
    assert stored() == before
    assert get_user(client).is_anonymous


@pytest.mark.parametrize("username", [None, "", "Ada Lovelace", "a" * 151, "\ufdfa", 7, ["ada"]])
def test_a_token_without_a_usable_username_creates_no_account(db: None, sso: Provider, username: object) -> None:
    answer = exchanged(sso.signed(preferred_username=username))

    assert (answer.status_code, answer.json()["code"]) == (403, "identity_incomplete")
    assert stored() == []


def test_the_username_may_come_from_another_claim(db: None, sso: Provider, settings: Settings) -> None:
    settings.OIDC_USERNAME_CLAIM = "email"

    assert exchanged(sso.signed()).json()["user"]["username"] == "ada@example.com"


@pytest.mark.parametrize(
    "said",
    [{"email": None}, {"email_verified": False}, {"email_verified": "no"}, {"email": "no address"}, {"email": 7}],
    ids=str,
)
def test_an_invalid_or_unverified_address_is_left_out(db: None, sso: Provider, said: dict[str, Any]) -> None:
    assert exchanged(sso.signed(**said)).json()["user"]["email"] == ""


@pytest.mark.django_db(transaction=True)
def test_simultaneous_first_sign_ins_create_one_account() -> None:
    claims = oidc.Claims(
        issuer="https://id.example.com", subject="7", username="ada", name="", email="ada@example.com", role=None
    )
    start = Barrier(4)

    def enter(_: int) -> int:
        try:
            start.wait(timeout=30)
            return identities.enter(claims).user.pk
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        users = set(pool.map(enter, range(4)))

    assert users == {User.objects.get().pk}
    assert Identity.objects.count() == 1
    assert AuditEntry.objects.filter(action="user.created").count() == 1
