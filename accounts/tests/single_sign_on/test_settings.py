"""Single sign-on is off without an issuer, and contradicting settings stop the start."""

from __future__ import annotations

import runpy

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.tests.single_sign_on.steps import EXCHANGE
from runner.home import REPOSITORY


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OIDC_ISSUER": "http://id.example.com"}, "must start with https:// (http:// only to localhost)"),
        ({"OIDC_ISSUER": "https://"}, "must start with https:// (http:// only to localhost)"),
        ({"OIDC_ISSUER": "https://id.example.com"}, "OIDC_ISSUER is set and OIDC_CLIENT_ID is not"),
        ({"OIDC_SCOPES": "profile,email"}, "must have openid among the scopes"),
        ({"OIDC_ROLE_CLAIM": "groups"}, "OIDC_ROLE_CLAIM goes with OIDC_ADMIN_VALUES or OIDC_USER_VALUES"),
        ({"OIDC_ADMIN_VALUES": "operators"}, "OIDC_ROLE_CLAIM goes with OIDC_ADMIN_VALUES or OIDC_USER_VALUES"),
        ({"OIDC_DEFAULT_ROLE": "admin"}, "must be one of user, viewer"),
    ],
    ids=str,
)
def test_contradicting_settings_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], words: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured) as refused:
        runpy.run_path(str(REPOSITORY / "svops" / "settings.py"))

    assert words in str(refused.value)


@pytest.mark.parametrize("issuer", ["https://id.example.com/realms/x", "http://localhost:1", "http://[::1]:1", ""])
def test_an_issuer_needs_https_unless_it_is_on_this_machine(monkeypatch: pytest.MonkeyPatch, issuer: str) -> None:
    monkeypatch.setenv("OIDC_ISSUER", issuer)
    monkeypatch.setenv("OIDC_CLIENT_ID", "svops")

    assert runpy.run_path(str(REPOSITORY / "svops" / "settings.py"))["OIDC_ISSUER"] == issuer


@pytest.mark.parametrize("path", ["/login/oidc", "/login/oidc/callback?code=x&state=y"])
def test_without_an_issuer_single_sign_on_is_not_found(db: None, path: str) -> None:
    answer = Client().get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_without_an_issuer_no_token_is_exchanged(db: None) -> None:
    answer = APIClient().post(EXCHANGE, {})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def spaced(html: str) -> str:
    """Return the text with one space wherever a browser shows one, and around the text of each element."""
    return " ".join(html.replace(">", "> ").replace("<", " <").split())


@pytest.mark.parametrize("page", ["/login", "/admin/login/"])
def test_sign_in_pages_offer_single_sign_on_only_with_an_issuer(
    db: None, settings: Settings, unused_tcp_port: int, page: str
) -> None:
    off = Client().get(page).content.decode()
    settings.OIDC_ISSUER, settings.OIDC_NAME = f"http://localhost:{unused_tcp_port}", "Example"
    on = Client().get(f"{page}?next=/admin/%3Fq%3D1").content.decode()

    assert "/login/oidc" not in off
    assert 'href="/login/oidc?next=%2Fadmin%2F%3Fq%3D1"> Sign in with Example </a>' in spaced(on)
