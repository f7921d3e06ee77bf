"""The real platform for the tests of the client: a web process, a Redis, a database, and a staged Airflow."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.hashers import MD5PasswordHasher
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from accounts import api_keys
from accounts.authentication import caller_of
from accounts.identity import Scope
from accounts.models import Role, User
from runner.ports import free_port
from svops_client import Client
from tests.chaos.wire import Wire
from tests.control.staged import ControlledAirflow
from tests.live.parts import Web
from tests.live.pushes import SECRET
from workflows import gateway
from workflows.models import Airflow, Dag, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import SCHEMA, dag_task

PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="package", autouse=True)
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Replace pytest-django's fixture: tests commit, so that the web process sees what they write."""
    with django_db_blocker.unblock():
        before = connection.creation.serialize_db_to_string()
        yield
        call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
        connection.creation.deserialize_db_from_string(before)


@pytest.fixture(scope="package")
def airflow(db: None) -> Iterator[ControlledAirflow]:
    """The Airflow of the web process and of this one. It knows the DAG `etl`."""
    with ControlledAirflow() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "AIRFLOW_URL", server.url)
        patch.setattr(settings, "AIRFLOW_USERNAME", "admin")
        patch.setattr(settings, "AIRFLOW_PASSWORD", "admin")
        gateway.pooled_client.cache_clear()
        Airflow.default()
        # No sweep during the tests.
        Airflow.objects.update(swept_at=timezone.now() + timedelta(days=1))
        yield server
        gateway.pooled_client.cache_clear()


@pytest.fixture(scope="package")
def web(airflow: ControlledAirflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web process whose access tokens live for three seconds."""
    env = {
        "DJANGO_SETTINGS_MODULE": "clients.python.tests.settings",
        "AIRFLOW_URL": airflow.url,
        "AIRFLOW_USERNAME": "admin",
        "AIRFLOW_PASSWORD": "admin",
        "SVOPS_INGEST_SECRET": SECRET,
        "STREAM_HEARTBEAT": "1",
        "STOP_SETTLE": "0.001",
        "ACCESS_TOKEN_SECONDS": "3",
        "STREAMS_PER_USER": "100",
    }
    with Web(tmp_path_factory.mktemp("client"), **env) as server:
        yield server


@pytest.fixture(scope="package")
def ada(db: None) -> User:
    user = User.objects.create_user("ada", role=Role.USER)
    user.password = MD5PasswordHasher().encode(PASSWORD, "salt")
    user.save()
    return user


@pytest.fixture(scope="package")
def api_key(ada: User) -> str:
    scopes = [Scope.WORKFLOW_READ, Scope.RUN_TRIGGER, Scope.RUN_CONTROL]
    return api_keys.create_key(caller=caller_of(ada), name="tests", scopes=scopes).text


@pytest.fixture(scope="package")
def etl(airflow: ControlledAirflow) -> Dag:
    tasks = [dag_task("extract", "transform"), dag_task("transform", "load"), dag_task("load")]
    dag, _ = Dag.objects.update_or_create(dag_id="etl", defaults={"params_schema": SCHEMA, "tasks": tasks})
    return dag


@pytest.fixture(scope="package")
def nightly(etl: Dag, ada: User) -> Workflow:
    return Workflow.objects.create(name="Nightly", dag=etl, owner=ada, default_parameters={"rows": 10})


@pytest.fixture
def run(nightly: Workflow) -> Run:
    """A run that Airflow has accepted, and whose log is empty."""
    return new_run(nightly)


def new_run(workflow: Workflow) -> Run:
    now = timezone.now()
    known = {"dag_run_id": f"svops__{uuid.uuid4()}", "state": RunState.QUEUED, "created_at": now, "queued_at": now}
    return Run.objects.create(workflow=workflow, dag_id=workflow.dag.dag_id, user=workflow.owner, **known)


@pytest.fixture
def svops(web: Web, api_key: str) -> Iterator[Client]:
    with Client(web.url, api_key=api_key) as client:
        yield client


class Cuts:
    """A way to the web process that is cut again and again."""

    def __init__(self, target: int, pauses: Iterator[float]) -> None:
        self.wire = Wire(port=free_port(), target=target)
        self.url = f"http://127.0.0.1:{self.wire.port}"
        self.count = 0
        self._pauses = pauses
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._cut)

    def __enter__(self) -> Cuts:
        self.wire.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _cut(self) -> None:
        while not self._ended.wait(next(self._pauses)):
            self.wire.cut()
            self.count += 1


class LosesAnswers(httpx.HTTPTransport):
    """Sends each request, and loses the answers to the next ones."""

    def __init__(self, *, next_answers: int = 0) -> None:
        super().__init__()
        self.next_answers = next_answers
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        self.sent.append(request)
        if self.next_answers:
            self.next_answers -= 1
            answer.read()
            raise httpx.ReadError("the connection was cut", request=request)
        return answer
