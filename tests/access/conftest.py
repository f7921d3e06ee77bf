"""Fixtures of the tests about who may do what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from pytest_django import Settings

from runner.ports import free_port
from tests.access.world import World, new_world
from workflows import gateway
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, StagedAirflow


@pytest.fixture(autouse=True)
def _static_files_on_request(settings: Settings) -> None:
    """Let no client scan all static files: each new one loads the middleware, and WhiteNoise scans at its start."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def one_connection() -> Iterator[None]:
    """Keep requests from closing the connection of the test's transaction, as Django's own test client does."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture(scope="session")
def closed_port() -> int:
    """A port that nobody listens on."""
    return free_port()


@pytest.fixture
def world(db: None, settings: Settings, closed_port: int) -> World:
    """A new world, and no Airflow: nobody listens at its address."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.AIRFLOW_URL = f"http://127.0.0.1:{closed_port}"
    settings.INGEST_SECRET = "a secret of the listener"
    gateway.pooled_client.cache_clear()
    return new_world()


@pytest.fixture
def with_airflow(world: World, settings: Settings) -> Iterator[None]:
    """A run that has started, with a task and its log."""
    with StagedAirflow() as airflow:
        settings.AIRFLOW_URL = airflow.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        world.run.state, world.run.queued_at, world.run.started_at = RunState.RUNNING, NOW, NOW
        world.run.save(update_fields=["state", "queued_at", "started_at"])
        airflow.put(world.run, "running", start=1)
        airflow.put_task(world.run, "extract", "running", start=1)
        airflow.put_log(world.run, "extract", "one line", "another")
        _forget_airflow()
        yield
        _forget_airflow()


@pytest.fixture
def without_airflow(world: World) -> Iterator[None]:
    """Keep the world as it is: nobody listens at the address of its Airflow."""
    _forget_airflow()
    yield
    _forget_airflow()


def _forget_airflow() -> None:
    gateway.breaker(DEFAULT).close()
    if gateway.pooled_client.cache_info().currsize:
        gateway.client_of(DEFAULT).close()
    gateway.pooled_client.cache_clear()
