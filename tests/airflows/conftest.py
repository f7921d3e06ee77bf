"""Two Airflows behind one SVOps: the one of the settings, and `prod`, which has a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from rest.sealing import seal
from tests.control.staged import ControlledAirflow
from workflows import gateway, way_in
from workflows.conftest import ada, as_user, etl, eve, nightly, root
from workflows.models import Airflow
from workflows.naming import DEFAULT

__all__ = ["ada", "as_user", "etl", "eve", "nightly", "root"]

PROD = "prod"
INGEST_SECRET = "signs what prod pushes"
Forget = Callable[[], None]


@pytest.fixture
def airflow(settings: Settings) -> Iterator[ControlledAirflow]:
    """The default one."""
    with ControlledAirflow() as server:
        settings.AIRFLOW_URL = server.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        forget(DEFAULT)
        yield server
        forget(DEFAULT)


@pytest.fixture
def prod(db: None) -> Iterator[ControlledAirflow]:
    with ControlledAirflow() as server:
        Airflow.default()
        add(PROD, server.url)
        yield server
        forget(PROD)


def add(name: str, url: str, **fields: Any) -> Airflow:
    secrets = {"password": "admin", "ingest_secret": INGEST_SECRET}
    options = {"url": url, "username": "admin"}
    forget(name)
    return Airflow.objects.create(name=name, options=options, secrets=seal(json.dumps(secrets)), **fields)


def forget(name: str) -> None:
    """Forget the way to an earlier Airflow of this name, its clients, and what the breaker knows of it."""
    gateway.breaker(name).close()
    gateway.pooled_client.cache_clear()
    way_in.forget(name)
