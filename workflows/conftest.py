from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services as accounts
from accounts.models import Role, User
from workflows import gateway, way_in
from workflows.models import Dag, Visibility, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import SCHEMA, StagedAirflow, dag_task

PASSWORD = "correct horse battery"

# A busy machine may take long for an example. That says nothing about the code.
hypothesis_settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _core_alone(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.EVENT_SINKS = []
    way_in._kept.clear()


def _user(username: str, role: Role) -> User:
    return User.objects.create_user(username, f"{username}@example.com", PASSWORD, role=role)


@pytest.fixture
def vera(db: None) -> User:
    """A viewer."""
    return _user("vera", Role.VIEWER)


@pytest.fixture
def ada(db: None) -> User:
    """A user, who owns the workflows below."""
    return _user("ada", Role.USER)


@pytest.fixture
def eve(db: None) -> User:
    """A user who owns nothing."""
    return _user("eve", Role.USER)


@pytest.fixture
def root(db: None) -> User:
    """An admin."""
    return _user("root", Role.ADMIN)


@pytest.fixture
def etl(db: None) -> Dag:
    """A DAG with parameters and three tasks in a row, as a sync would have stored it."""
    return Dag.objects.create(
        dag_id="etl",
        params_schema=SCHEMA,
        tasks=[dag_task("extract", "transform"), dag_task("transform", "load"), dag_task("load")],
    )


@pytest.fixture
def nightly(etl: Dag, ada: User) -> Workflow:
    """An internal workflow."""
    return Workflow.objects.create(name="Nightly", dag=etl, owner=ada, default_parameters={"rows": 10})


@pytest.fixture
def secret(etl: Dag, ada: User) -> Workflow:
    """A private workflow."""
    return Workflow.objects.create(name="Secret", dag=etl, owner=ada, visibility=Visibility.PRIVATE)


@pytest.fixture
def as_user() -> Callable[[User], APIClient]:
    """Return a client with a fresh access token of the user."""

    def client(user: User) -> APIClient:
        return bearer(token_of(user))

    return client


def token_of(user: User) -> str:
    return accounts.sign_in(user=user).access_token


def bearer(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def airflow(settings: Settings) -> Iterator[StagedAirflow]:
    """A small Airflow behind a real socket, to which the settings point. It knows the DAG `etl`."""
    with StagedAirflow() as server:
        _point_at(server.url, settings)
        yield server
        _forget()


@pytest.fixture
def no_airflow(settings: Settings, unused_tcp_port: int) -> Iterator[None]:
    """Nobody listens where Airflow should be."""
    _point_at(f"http://127.0.0.1:{unused_tcp_port}", settings)
    yield
    _forget()


def _point_at(url: str, settings: Settings) -> None:
    settings.AIRFLOW_URL = url
    settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
    _forget()


def _forget() -> None:
    """Forget the client, and what the breaker knows of the earlier Airflow."""
    gateway.breaker(DEFAULT).close()
    if gateway.pooled_client.cache_info().currsize:
        gateway.client_of(DEFAULT).close()
    gateway.pooled_client.cache_clear()
