"""Real web processes on the database of the tests. All rows are committed; the database is emptied at the end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker, Settings

from accounts import services as accounts
from accounts.models import Role, User
from tests.live.parts import Web
from tests.live.pushes import SECRET, shows
from tests.live.readers import Loop
from workflows import gateway, services
from workflows.airflow.tests.scripted import ScriptedAirflow
from workflows.eventlog import publication
from workflows.models import Airflow, Dag, Run, Visibility, Workflow
from workflows.states import RunState

HEARTBEAT = 3.0


@pytest.fixture(scope="package", autouse=True)
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Replace pytest-django's fixture: tests commit what they write, so that other processes see it.

    The database is emptied only at the end: the web processes live through all tests and know the end of the log.
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
    """Two web processes with one database and one Redis."""
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


@pytest.fixture
def airflow(scripted_airflow: ScriptedAirflow, settings: Settings) -> Iterator[ScriptedAirflow]:
    """The Airflow of the web processes, which this process polls too. Nothing has changed in it."""
    settings.AIRFLOW_URL, settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = scripted_airflow.url, "admin", "admin"
    gateway.pooled_client.cache_clear()
    shows(scripted_airflow, [], [])
    # No DAG is paused.
    scripted_airflow.answers["GET", "/dags"] = {"dags": [], "total_entries": 0}
    Airflow.default()
    # No sweep during the test.
    Airflow.objects.update(swept_at=timezone.now() + timedelta(days=1))
    yield scripted_airflow
    scripted_airflow.answers.clear()
    gateway.pooled_client.cache_clear()


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
    """Create a run that Airflow has accepted."""
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
    """The position of the log before the test writes to it."""
    return publication.head()
