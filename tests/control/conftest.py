"""The platform's own code against a staged Airflow; nothing of ours is replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.staged import ControlledAirflow
from workflows import gateway
from workflows.conftest import ada, as_user, bearer, etl, eve, nightly, token_of, vera
from workflows.naming import DEFAULT

__all__ = ["ada", "as_user", "etl", "eve", "nightly", "vera"]


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _stops_settle_at_once(settings: Settings) -> None:
    """How long they wait is tested beside `observe`."""
    settings.STOP_SETTLE = 0


@pytest.fixture
def airflow(settings: Settings) -> Iterator[ControlledAirflow]:
    """The Airflow that the settings name; it knows the DAG `etl`."""
    with ControlledAirflow() as server:
        settings.AIRFLOW_URL = server.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        forget_airflow()
        yield server
        forget_airflow()


@pytest.fixture
def api(ada: User) -> APIClient:
    """Ada's client."""
    return bearer(token_of(ada))


def forget_airflow() -> None:
    """Forget the clients of this process, and what the breaker knows of an earlier Airflow."""
    gateway.breaker(DEFAULT).close()
    gateway.breaker.cache_clear()
    for hurried in (False, True):
        gateway.client_of(DEFAULT, hurried=hurried).close()
    gateway.pooled_client.cache_clear()
