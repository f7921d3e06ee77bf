from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from accounts.models import Role, SignIn, User

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _static_files_on_request(settings: Settings) -> None:
    """Let no client scan all static files: each new one loads the middleware, and WhiteNoise scans at its start."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(autouse=True)
def _quick_hashing(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.REGISTRATION = "open"


def _user(username: str, role: Role) -> User:
    return User.objects.create_user(username, f"{username}@example.com", PASSWORD, name=username.title(), role=role)


@pytest.fixture
def vera(db: None) -> User:
    return _user("vera", Role.VIEWER)


@pytest.fixture
def ada(db: None) -> User:
    return _user("ada", Role.USER)


@pytest.fixture
def root(db: None) -> User:
    return _user("root", Role.ADMIN)


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def as_user() -> Callable[[User], APIClient]:
    """Return a function that makes a client with a new access token of a user."""

    def client(user: User) -> APIClient:
        return bearer(services.sign_in(user=user).access_token)

    return client


def bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def everything() -> list[dict[str, Any]]:
    """Return all users and sign-ins, to compare before and after a refusal."""
    rows = [*User.objects.order_by("pk").values(), *SignIn.objects.order_by("pk").values()]
    return [dict(row) for row in rows]
