"""Signing in with a browser: to the provider and back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth import get_user
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry, Identity, Role, User
from accounts.tests.provider import CALLBACK, CLIENT_ID, Provider
from accounts.tests.single_sign_on.steps import audited, problem, signed_in, started, stored


def test_the_browser_is_sent_to_the_provider_with_state_nonce_and_challenge(db: None, sso: Provider) -> None:
    place = urlsplit(started(Client()))

    query = {name: values[0] for name, values in parse_qs(place.query).items()}
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{sso.issuer}/oauth/authorize"
    assert {name: query.pop(name) for name in ("response_type", "client_id", "redirect_uri", "scope")} == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "scope": "openid profile email groups",
    }
    assert query.pop("code_challenge_method") == "S256"
    assert set(query) == {"state", "nonce", "code_challenge"}


def test_the_first_sign_in_creates_an_account_and_returns_to_the_requested_page(db: None, sso: Provider) -> None:
    client = Client()

    answer = signed_in(client, sso, next_url="/?w=3#/runs/7")

    assert (answer.status_code, answer["Location"]) == (302, "/?w=3#/runs/7")
    grace = User.objects.get()
    assert (grace.username, grace.name, grace.email, grace.role) == (
        "grace",
        "Grace Hopper",
        "grace@example.com",
        Role.USER,
    )
    assert not grace.has_usable_password()
    assert get_user(client) == grace
    who = {"issuer": sso.issuer, "subject": "grace"}
    assert Identity.objects.values("user_id", "issuer", "subject").get() == {"user_id": grace.pk, **who}
    assert audited("identity.linked", "auth.signed_in") == [
        ("identity.linked", "grace", {"username": "grace", **who}),
        ("auth.signed_in", "grace", who),
    ]
    assert AuditEntry.objects.filter(action="user.created").count() == 1


def test_the_second_sign_in_finds_the_account(db: None, sso: Provider) -> None:
    signed_in(Client(), sso)
    User.objects.update(username="renamed", email="other@example.com")

    client = Client()
    signed_in(client, sso)

    assert get_user(client) == User.objects.get()


@pytest.mark.parametrize("place", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", ""])
def test_a_sign_in_never_leads_to_another_site(db: None, sso: Provider, place: str) -> None:
    answer = signed_in(Client(), sso, next_url=place)

    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_an_admin_can_reach_the_admin_pages_by_single_sign_on(db: None, sso: Provider, settings: Settings) -> None:
    settings.OIDC_ROLE_CLAIM, settings.OIDC_ADMIN_VALUES = "groups", ["operators"]
    client = Client()

    answer = signed_in(client, sso, next_url="/admin/")

    assert client.get(answer["Location"]).status_code == 200


def _with(url: str, **others: str) -> str:
    place = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(place.query).items()} | others
    return place._replace(query=urlencode(query)).geturl()


def test_a_callback_that_another_browser_began_is_refused(db: None, sso: Provider) -> None:
    back = sso.sign_in("grace", started(Client()))
    victim, before = Client(), stored()
    own_state = parse_qs(urlsplit(started(victim)).query)["state"][0]

    answers = [victim.get(back), victim.get(_with(back, state="forged")), victim.get(_with(back, state=own_state))]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert problem(answers[0]) == "The identity provider did not sign you in; try again."
    assert stored() == before
    assert get_user(victim).is_anonymous


def test_a_callback_works_once(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", started(client))
    client.get(back)
    before = stored()

    assert client.get(back).status_code == 403
    assert stored() == before


def test_a_token_with_another_nonce_is_refused(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", _with(started(client), nonce="of somebody else"))

    assert client.get(back).status_code == 401
    assert stored() == []


def test_a_code_for_another_challenge_is_refused(db: None, sso: Provider) -> None:
    client = Client()
    back = sso.sign_in("grace", _with(started(client), code_challenge="k" * 43))

    assert client.get(back).status_code == 403
    assert stored() == []


def test_a_refusal_by_the_provider_is_shown_without_its_text(db: None, sso: Provider) -> None:
    client = Client()
    state = parse_qs(urlsplit(started(client)).query)["state"][0]

    answer = client.get(
        "/login/oidc/callback", {"error": "access_denied", "error_description": "Call me", "state": state}
    )

    assert answer.status_code == 403
    assert "Call me" not in answer.content.decode()
    assert stored() == []


@pytest.mark.usefixtures("nobody_there")
def test_while_the_provider_does_not_answer_the_page_says_so_and_keeps_the_requested_page(db: None) -> None:
    answer = Client().get("/login/oidc", {"next": "/#/runs/7"})

    assert (answer.status_code, problem(answer)) == (503, "The identity provider did not answer; try again later.")
    assert 'name="next" value="/#/runs/7"' in answer.content.decode()
