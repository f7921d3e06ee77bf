"""What a browser gets and keeps: cookies, sessions, redirects, and errors without details."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from runner.home import REPOSITORY
from workflows.models import Workflow

PASSWORD = "correct horse battery"
LOGIN = "/api/v1/auth/login"


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada", "ada@example.com", PASSWORD)


def signed_in(browser: Client, **more: str) -> Any:
    return browser.post("/login", {"username": "ada", "password": PASSWORD, **more})


def test_a_sign_in_begins_a_session_that_scripts_and_other_sites_cannot_use(ada: User) -> None:
    browser = Client()
    session = browser.session
    session["theirs"] = "chosen by somebody else"
    session.save()
    before = session.session_key

    signed_in(browser)

    cookie = browser.cookies["sessionid"]
    assert cookie.value != before
    assert len(cookie.value) >= 32
    assert (cookie["httponly"], cookie["samesite"], cookie["domain"]) == (True, "Lax", "")


def test_the_cookie_of_a_session_that_was_signed_out_opens_nothing(ada: User) -> None:
    browser, thief = Client(), Client()
    signed_in(browser)
    thief.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert thief.get("/api/v1/auth/me").status_code == 200

    browser.post("/logout")

    assert thief.get("/api/v1/auth/me").status_code == 401


@pytest.mark.parametrize("place", ["https://evil.example.com/", "//evil.example.com", "javascript:alert(1)", ""])
def test_a_sign_in_by_password_never_leads_to_another_site(ada: User, place: str) -> None:
    answer = signed_in(Client(), next=place)

    assert (answer.status_code, answer["Location"]) == (302, "/")


@pytest.mark.parametrize("https", ["true", "false"])
def test_with_https_cookies_leave_over_tls_only(https: str) -> None:
    code = (
        "from django.conf import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT)"
    )
    env = dict(os.environ) | {"HTTPS": https, "DJANGO_SETTINGS_MODULE": "svops.settings"}

    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=env, capture_output=True, text=True)

    assert done.stdout.split() == [str(https == "true")] * 3, done.stderr


PASSWORD_FIELD = re.compile(r"<input[^>]*type=.password.[^>]*>")


@pytest.mark.parametrize("path", ["/login", "/admin/login/", "/account"])
def test_passwords_can_be_pasted_and_filled_in_by_managers(ada: User, path: str) -> None:
    browser = Client()
    if path == "/account":
        browser.force_login(ada)

    fields = PASSWORD_FIELD.findall(browser.get(path).content.decode())

    assert fields
    for field in fields:
        assert 'autocomplete="current-password"' in field
        # A longer one is no password.
        assert "maxlength" not in field or 'maxlength="128"' in field
        assert not re.search(r"\son[a-z]+=", field)
    assert not [script for script in SCRIPTS if re.search(r"paste|copy", script.read_text())]


SCRIPTS = sorted((REPOSITORY / "console/static").rglob("*.js")) + sorted(
    (REPOSITORY / "workflows/static").rglob("*.js")
)


def test_no_script_of_ours_stores_anything_in_the_browser() -> None:
    stores = re.compile(r"localStorage|sessionStorage|indexedDB|document\.cookie *=|caches\.open")

    assert len(SCRIPTS) > 5
    assert not [script for script in SCRIPTS if stores.search(script.read_text())]


@pytest.mark.parametrize("path", ["/static/", "/static/console/", "/static/../manage.py", "/.git/config", "/.env"])
def test_no_directory_and_no_file_of_the_project_is_shown(db: None, path: str) -> None:
    assert Client().get(path).status_code == 404


def test_an_unexpected_error_is_answered_without_its_text(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the password of the database is canary")

    monkeypatch.setattr(Workflow.objects, "visible_to", broken)
    client = APIClient(raise_request_exception=False)
    client.force_authenticate(ada)

    answer = client.get("/api/v1/workflows")

    body = answer.json()
    assert answer.status_code == 500
    assert body.keys() == {"code", "detail", "request_id"}
    assert body["request_id"] == answer["X-Request-ID"]
    assert "canary" not in answer.content.decode()


@pytest.mark.parametrize(
    "password", ["".join(map(chr, range(0x410, 0x490))), "🔑 ключ  鍵 " * 10, "    spaces count    "]
)
def test_a_password_of_any_characters_is_kept_whole(db: None, password: str) -> None:
    new = {"username": "grace", "email": "grace@example.com", "password": password}

    made = APIClient().post("/api/v1/auth/register", new, format="json")
    whole, cut = (
        APIClient().post(LOGIN, {"username": "grace", "password": text}, format="json")
        for text in (password, password[:-1])
    )

    assert (made.status_code, whole.status_code, cut.status_code) == (201, 200, 401)
