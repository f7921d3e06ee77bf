"""Real web processes on the database of the tests, whose rows all commit: it is emptied at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from accounts import services as accounts
from accounts.models import Role, User
from tests.live.parts import Web
from tests.live.readers import Loop
from workflows import outbox, services
from workflows.airflow.tests.scripted import ScriptedAirflow
from workflows.models import Dag, Run, Visibility, Workflow
from workflows.states import RunState

HEARTBEAT = 3.0
SECRET = "shared with the plugin"


@pytest.fixture(scope="package", autouse=True)
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of pytest-django's: what a test writes is committed, for other processes to see, and stays.

    Emptied only at the end, for the web processes live through all tests and know how far the log has come.
    """
    with django_db_blocker.unblock():
        before = connection.creation.serialize_db_to_string()
        yield
        call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
        connection.creation.deserialize_db_from_string(before)


@pytest.fixture(scope="package")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="package")
def scripted_airflow() -> Iterator[ScriptedAirflow]:
    with ScriptedAirflow() as server:
        yield server


@pytest.fixture(scope="package")
def webs(directory: Path, scripted_airflow: ScriptedAirflow, db: None) -> Iterator[list[Web]]:
    """Two web processes over one database and one Redis."""
    env = {
        "STREAM_HEARTBEAT": str(HEARTBEAT),
        "SVOPS_INGEST_SECRET": SECRET,
        "AIRFLOW_URL": scripted_airflow.url,
        "AIRFLOW_USERNAME": "admin",
        "AIRFLOW_PASSWORD": "admin",
    }
    with ExitStack() as running:
        pair = [Web(directory, **env) for _ in range(2)]
        for web in pair:
            web.begin()
            running.push(web)
        for web in pair:
            web.wait_until_ready()
        yield pair


@pytest.fixture
def web(webs: list[Web]) -> Web:
    return webs[0]


@pytest.fixture(scope="package")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


def new_user(role: Role = Role.USER) -> User:
    return User.objects.create_user(f"{role}-{uuid.uuid4().hex[:8]}", role=role)


def token_of(user: User) -> str:
    return accounts.sign_in(user=user).access_token


def new_workflow(owner: User, *, dag_id: str = "", visibility: Visibility = Visibility.INTERNAL) -> Workflow:
    dag, _ = Dag.objects.get_or_create(dag_id=dag_id or f"dag_{uuid.uuid4().hex[:8]}")
    return services.create_workflow(owner=owner, dag=dag, name=uuid.uuid4().hex, visibility=visibility)


def new_run(workflow: Workflow, *, dag_run_id: str = "", state: RunState = RunState.QUEUED) -> Run:
    """A run that Airflow has taken."""
    return Run.objects.create(
        workflow=workflow,
        dag_id=workflow.dag.dag_id,
        dag_run_id=dag_run_id or f"svops__{uuid.uuid4()}",
        user=workflow.owner,
        state=state,
        created_at=timezone.now(),
        queued_at=timezone.now(),
    )


@pytest.fixture
def ada() -> User:
    return new_user()


@pytest.fixture
def admin() -> User:
    return new_user(Role.ADMIN)


@pytest.fixture
def workflow(ada: User) -> Workflow:
    return new_workflow(ada)


@pytest.fixture
def run(workflow: Workflow) -> Run:
    return new_run(workflow)


@pytest.fixture
def start(run: Run) -> int:
    """The head of the log before the test writes to it."""
    return outbox.head()
