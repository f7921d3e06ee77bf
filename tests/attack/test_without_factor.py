"""Somebody who knows the password of an administrator, while a second factor is required and not yet set up."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings
from pytest_django.fixtures import db

from accounts import services
from accounts.identity import Scope
from accounts.models import User
from tests.access.conftest import closed_port, one_connection, world
from tests.access.table import PLAIN, STREAMS, TABLE
from tests.access.world import World, client_of, new_key

__all__ = ["closed_port", "db", "one_connection", "world"]

# One's own account, and what strangers may read.
OWN = {"me", "session-list", "api-key-list", "api-key-detail", "root", "schema", "event-schema", "asyncapi"}
OPEN_PAGES = ["/metrics", "/docs", "/healthz", "/api/v1", "/api/v1/schema", "/api/v1/events/schema", "/api/v1/asyncapi"]


@pytest.fixture
def lacking(world: World, settings: Settings) -> User:
    """The administrator, who has nothing but a password. Their key is from before."""
    world.give_to(world.users["admin"])
    settings.SECOND_FACTOR_ADMINS = True
    return world.users["admin"]


@pytest.fixture
def browser(lacking: User) -> Client:
    client = Client()
    client.force_login(lacking)
    return client


READING = [(name, method) for name, method in (*PLAIN, *STREAMS) if method == "get" and name not in OWN]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("name", "method"), READING, ids=str)
def test_nothing_of_the_platform_is_read(world: World, lacking: User, browser: Client, name: str, method: str) -> None:
    """Before: `/readyz` named the versions and errors of all parts; the rest was held."""
    path = world.path(TABLE[name, method].path)
    token = services.sign_in(user=lacking).access_token

    assert client_of(token).get(path).status_code == 403
    assert browser.get(path).status_code == 403


def test_readiness_is_one_word(lacking: User, browser: Client, settings: Settings) -> None:
    """Before: 5 checks with their details. A key for certain workflows saw them too."""
    settings.SECOND_FACTOR_ADMINS = False
    bounded = new_key(lacking, frozenset({Scope.USER_ADMIN, Scope.WORKFLOW_READ})).text
    assert browser.get("/readyz").json().keys() == {"status", "checks"}
    settings.SECOND_FACTOR_ADMINS = True

    assert browser.get("/readyz").json().keys() == {"status"}
    for token in (bounded, services.sign_in(user=lacking).access_token):
        assert client_of(token).get("/readyz").json().keys() == {"status"}


def test_every_page_of_the_admin_leads_to_the_account(lacking: User, browser: Client) -> None:
    pages = ["/admin/", "/admin/jsi18n/", "/admin/password_change/"]
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        pages += [_url(f"{name}_{page}") for page in ("changelist", "add")]
        pages += [_url(f"{name}_{page}", "1") for page in ("change", "history", "delete")]
    pages = [page for page in pages if page]

    assert len(pages) > 50
    for page in pages:
        answer = browser.get(page, follow=True)
        assert answer.redirect_chain[-1][0] == "/account", page


def _url(name: str, *args: str) -> str:
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


@pytest.mark.parametrize("path", OPEN_PAGES)
def test_open_pages_show_no_more_than_to_a_stranger(lacking: User, browser: Client, path: str) -> None:
    def shown(answer: Any) -> tuple[int, bool]:
        return answer.status_code, lacking.username.encode() in answer.content

    assert shown(browser.get(path)) == shown(Client().get(path))
