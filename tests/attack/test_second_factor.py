"""Somebody who knows the password of an account tries to get in without its second factor."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest
import redis
from django.conf import settings as given
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from accounts.models import AuditEntry, Notice, RecoveryCode, Role, SecondFactor, User
from accounts.tests.conftest import PASSWORD, bearer
from rest import sealing
from tests.live.parts import until

LOGIN = "/api/v1/auth/login"
FACTOR = "/api/v1/auth/second-factor"


@pytest.fixture(autouse=True)
def undone(settings: Settings) -> Iterator[None]:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.ACCOUNT_NOTICES = True
    server = redis.Redis.from_url(given.REDIS_URL)
    for key in server.scan_iter("svops:login:*"):
        server.delete(key)
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    server.close()


@pytest.fixture
def root() -> User:
    name = f"root-{uuid.uuid4().hex[:8]}"
    return User.objects.create_user(name, f"{name}@example.com", PASSWORD, role=Role.ADMIN)


class App:
    """The authenticator app of a user. Each code is of a later step, since no code works twice."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)
        self._step = int(time.time()) // 30 - 1

    def code(self) -> str:
        code = self._totp.generate_otp(self._step)
        self._step += 1
        return code


def set_up(user: User) -> tuple[App, list[str]]:
    client = bearer(services.sign_in(user=user).access_token)
    app = App(client.post(FACTOR, {"current_password": PASSWORD}).json()["secret"])
    codes = client.post(f"{FACTOR}/confirm", {"code": app.code()}).json()["recovery_codes"]
    user.refresh_from_db()
    return app, codes


def login(user: User, **more: str) -> Any:
    return APIClient().post(LOGIN, {"username": user.username, "password": PASSWORD, **more})


WAYS = ["/login", "/admin/login/"]


def is_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_the_password_alone_opens_nothing(root: User) -> None:
    """Before: there was no second factor; the password alone opened all three ways."""
    set_up(root)
    answer = login(root)

    assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
    for way in WAYS:
        client = Client()
        page = client.post(way, {"username": root.username, "password": PASSWORD}).content.decode()
        assert not is_in(client), way
        assert "second factor" in page


@pytest.mark.parametrize("way", [LOGIN, *WAYS])
def test_the_code_opens_each_way_once(root: User, way: str) -> None:
    app, _ = set_up(root)
    body = {"username": root.username, "password": PASSWORD, "code": app.code()}

    first, second = (APIClient(), APIClient()) if way == LOGIN else (Client(), Client())
    answers = [client.post(way, body) for client in (first, second)]

    if way == LOGIN:
        assert [answer.status_code for answer in answers] == [200, 401]
    else:
        assert [is_in(first), is_in(second)] == [True, False]
    assert AuditEntry.objects.filter(action="auth.second_factor_failed", object_id=str(root.pk)).count() == 1


@pytest.mark.parametrize(("steps", "status"), [(-3, 401), (-2, 401), (0, 200), (2, 401), (3, 401)])
def test_a_code_of_another_time_is_worth_nothing(root: User, steps: int, status: int) -> None:
    """Before: there was no second factor. A code lives for 30 s, and for the step before and after for wrong clocks."""
    set_up(root)
    SecondFactor.objects.filter(user=root).update(last_step=0)
    totp = pyotp.TOTP(sealing.unseal(SecondFactor.objects.get(user=root).sealed_secret))
    # Not at the end of a step, which could be over before the answer.
    until(lambda: time.time() % 30 < 20, within=30)

    assert login(root, code=totp.generate_otp(int(time.time()) // 30 + steps)).status_code == status


@pytest.mark.parametrize("by", ["itself", "an administrator", "an operator"])
def test_a_lost_factor_is_revoked(root: User, by: str) -> None:
    app, codes = set_up(root)
    if by == "itself":
        token = login(root, code=app.code()).json()["access_token"]
        answer = bearer(token).post(f"{FACTOR}/disable", {"current_password": PASSWORD, "code": codes[0]})
        assert answer.status_code == 204
    elif by == "an administrator":
        other = User.objects.create_user(f"boss-{uuid.uuid4().hex[:8]}", role=Role.ADMIN)
        browser = Client()
        browser.force_login(other)
        form = {"action": "remove_second_factor", "_selected_action": [root.pk]}
        assert browser.post("/admin/accounts/user/", form).status_code == 302
    else:
        call_command("remove_second_factor", root.username)

    assert login(root, code=codes[1]).status_code == 200  # the code is not asked for any more
    assert not SecondFactor.objects.filter(user=root).exists()
    assert not RecoveryCode.objects.filter(user=root).exists()
    assert Notice.objects.filter(user=root, kind="factor_removed").count() == 1


def test_a_recovery_code_works_once_and_the_owner_hears_of_it(root: User) -> None:
    _, codes = set_up(root)

    assert [login(root, code=codes[0].upper()).status_code for _ in range(2)] == [200, 401]
    assert login(root, code=codes[1]).status_code == 200
    assert Notice.objects.filter(user=root, kind="recovery_used", to=root.email).count() == 2
    assert len(codes) == len(set(codes)) == 10
    # 80 bits each, of which the database has a digest only.
    assert all(re.fullmatch(r"[0-9a-f]{10}-[0-9a-f]{10}", code) for code in codes)
    stored = [row.digest for row in RecoveryCode.objects.filter(user=root)]
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in stored)
    assert not any(code.replace("-", "") in digest for code in codes for digest in stored)


def test_guesses_of_the_code_are_slowed_down_and_recorded(root: User, settings: Settings) -> None:
    settings.LOGIN_ATTEMPTS = 3
    set_up(root)
    began = time.monotonic()

    statuses = [login(root, code=f"{n:06}").status_code for n in range(6)]

    tried = statuses.count(401)
    # The wait is 1 s, and each failure doubles it.
    assert statuses[:3] == [401] * 3
    assert 3 <= tried <= 3 + math.log2(1 + time.monotonic() - began)
    assert statuses.count(429) == 6 - tried
    assert AuditEntry.objects.filter(action="auth.second_factor_failed", object_id=str(root.pk)).count() == tried


def test_a_code_for_a_wrong_password_says_nothing_and_is_not_used_up(root: User) -> None:
    app, _ = set_up(root)
    code = app.code()
    body = {"username": root.username, "password": "wrong", "code": code}

    assert APIClient().post(LOGIN, body).json()["code"] == "invalid_credentials"
    assert login(root, code=code).status_code == 200


def test_a_stolen_session_cannot_remove_or_replace_the_factor(root: User) -> None:
    set_up(root)
    stolen = bearer(services.sign_in(user=root).access_token)

    answers = [
        stolen.post(FACTOR, {"current_password": PASSWORD}),
        stolen.post(f"{FACTOR}/disable", {"current_password": PASSWORD, "code": "000000"}),
        stolen.post(f"{FACTOR}/disable", {"current_password": "wrong", "code": "000000"}),
        stolen.post(f"{FACTOR}/recovery-codes", {"current_password": PASSWORD, "code": "000000"}),
    ]

    assert [answer.status_code for answer in answers] == [409, 400, 400, 400]
    assert SecondFactor.objects.filter(user=root, confirmed_at__isnull=False).exists()


def test_a_factor_that_was_not_confirmed_does_not_count(root: User) -> None:
    services.begin_factor(user=root, current_password=PASSWORD)

    assert login(root).status_code == 200


def test_the_secret_is_encrypted_at_rest_and_not_in_the_trail(root: User) -> None:
    set_up(root)
    stored = SecondFactor.objects.get(user=root).sealed_secret
    secret = sealing.unseal(stored)

    assert secret not in stored
    assert not [entry for entry in AuditEntry.objects.values() if secret in str(entry)]


def test_the_page_shows_the_secret_as_a_code_to_scan(root: User) -> None:
    """Before: a long secret to type, so people chose none."""
    browser = Client()
    browser.force_login(root)
    page = browser.post("/account", {"do": "begin", "current_password": PASSWORD})

    [shown] = re.findall(r'<img src="(data:[^"]+)" alt="QR code', page.content.decode())
    mime, _, drawn = shown.partition(",")
    assert mime == "data:image/svg+xml;charset=utf-8"
    assert unescape(unquote(drawn)).startswith("<svg ")
    # Nobody but the browser draws it: the secret is in no address.
    assert page.context["new"].secret not in shown
    assert "img-src 'self' data:" in page["Content-Security-Policy"]
    assert "QR code" not in browser.get("/account").content.decode()


def test_setting_up_ends_the_other_sessions(root: User) -> None:
    stolen = bearer(services.sign_in(user=root).access_token)
    set_up(root)

    assert stolen.get("/api/v1/auth/me").status_code == 401


def test_an_admin_without_the_required_factor_can_only_set_it_up(root: User, settings: Settings) -> None:
    settings.SECOND_FACTOR_ADMINS = True
    client, browser = bearer(login(root).json()["access_token"]), Client()
    browser.force_login(root)

    assert [client.get(f"/api/v1/{path}").status_code for path in ("users", "audit", "runs")] == [403, 403, 403]
    assert [browser.get(path, follow=True).redirect_chain[-1][0] for path in ("/", "/admin/")] == ["/account"] * 2

    new = browser.post("/account", {"do": "begin", "current_password": PASSWORD}).context["new"]
    app = App(new.secret)
    page = browser.post("/account", {"do": "confirm", "code": app.code()})
    assert len(page.context["codes"]) == 10
    assert [browser.get(path).status_code for path in ("/", "/admin/", "/api/v1/users")] == [200, 200, 200]
    token = login(root, code=app.code()).json()["access_token"]
    assert bearer(token).get("/api/v1/users").status_code == 200


def test_the_factor_is_not_required_of_users_and_of_people_of_the_provider(root: User, settings: Settings) -> None:
    settings.SECOND_FACTOR_ADMINS = True
    ada = User.objects.create_user(f"ada-{uuid.uuid4().hex[:8]}", password=PASSWORD)
    root.set_unusable_password()
    root.save()

    for user in (ada, root):
        assert bearer(services.sign_in(user=user).access_token).get("/api/v1/runs").status_code == 200
