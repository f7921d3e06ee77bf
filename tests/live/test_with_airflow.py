"""A real Airflow with the plugin in it: what happens there arrives by push, and without the push by the next look."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from svops.local.home import Home
from svops.local.ports import free_port
from svops.local.testing import Served
from tests.live import log
from tests.live.conftest import SECRET, new_workflow, token_of
from tests.live.parts import Web, until
from tests.live.readers import Loop, WebSocketReader, have, reading
from workflows import dag_sync, outbox, reconcile, services, upstream
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowUnavailableError
from workflows.models import AirflowState, Dag, Event, Run, TriggerType, Workflow

pytestmark = pytest.mark.airflow

DAG = "simple_workflow_example"
STORY = [
    ("workflow.triggered", ""),
    ("workflow.started", ""),
    ("task.started", "start"),
    ("task.completed", "start"),
    ("task.started", "processing"),
    ("task.completed", "processing"),
    ("task.started", "completion"),
    ("task.completed", "completion"),
    ("workflow.completed", ""),
]
T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """An Airflow, and the web process that its plugin pushes to, while that runs."""

    url: str
    password: str
    web: Web


@pytest.fixture(scope="module")
def pair(directory: Path) -> Iterator[Pair]:
    home, port = Home(directory / "airflow"), free_port()
    url, password = f"http://127.0.0.1:{port}", home.secret("airflow_password")
    web = Web(
        directory,
        AIRFLOW_URL=url,
        AIRFLOW_USERNAME="admin",
        AIRFLOW_PASSWORD=password,
        SVOPS_INGEST_SECRET=SECRET,
    )
    push = {"SVOPS_INGEST_URL": f"{web.url}/api/v1/ingest", "SVOPS_INGEST_SECRET": SECRET}
    served = Served("airflow", home=home.path, env={"AIRFLOW_PORT": str(port), **push})
    yield Pair(url, password, web)
    served.stop()


@pytest.fixture
def client(pair: Pair, settings: Settings) -> Iterator[AirflowClient]:
    settings.AIRFLOW_URL, settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = pair.url, "admin", pair.password
    upstream.airflow.cache_clear()
    upstream.breaker().close()
    yield upstream.airflow()
    upstream.airflow().close()
    upstream.airflow.cache_clear()


@pytest.fixture
def simple(client: AirflowClient, ada: User) -> Iterator[Workflow]:
    insist(lambda: dag_sync.sync_dags(now=timezone.now()))
    AirflowState.current()
    workflow = new_workflow(ada, dag_id=DAG)
    yield workflow
    # The oldest workflow of a DAG adopts: the next test has its own.
    Workflow.objects.filter(pk=workflow.pk).update(deleted_at=timezone.now())


def insist(write: Callable[[], T]) -> T:
    """Repeat while Airflow says "not now", as one on SQLite does at times."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return write()
        except AirflowUnavailableError:
            assert time.monotonic() < deadline


def trigger(workflow: Workflow) -> Run:
    given = {"processing_time": 0}
    run = services.trigger_run(
        workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, given=given, task_id=7
    )
    assert run.state == "queued"
    return run


def told(run: Run) -> list[tuple[str, str]]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", "task_id"))


def ended_in_airflow(client: AirflowClient, dag_run_id: str) -> bool:
    return client.runs.get(DAG, dag_run_id).state == "success"


def look() -> None:
    upstream.breaker().close()
    AirflowState.objects.update(swept_at=timezone.now())
    until(lambda: reconcile.tick(now=timezone.now()), within=60)


def test_a_run_is_told_live_by_pushes_alone_and_a_look_finds_nothing_to_add(
    pair: Pair, simple: Workflow, loop: Loop, ada: User
) -> None:
    with pair.web:
        start = outbox.head()
        reader = WebSocketReader(bases=[pair.web.url], token=token_of(ada), cursor=start, path=f"/workflow/{simple.pk}")
        with reading(loop, [reader]):
            run = trigger(simple)

            until(lambda: len(told(run)) >= len(STORY), within=60, or_say=lambda: told(run))
            assert told(run) == STORY
            have([reader], log.ids_after(start, [run]), within=5)
        look()

    assert told(run) == STORY


def test_a_run_that_somebody_starts_in_airflow_is_adopted_by_a_push(
    pair: Pair, client: AirflowClient, simple: Workflow
) -> None:
    name = f"by_hand__{uuid.uuid4().hex}"
    with pair.web:
        insist(lambda: client.runs.trigger(DAG, dag_run_id=name, conf={"processing_time": 0}))

        until(lambda: Run.objects.filter(dag_run_id=name, state="success").exists(), within=60)

    run = Run.objects.get(dag_run_id=name)
    assert (run.trigger_type, run.workflow) == (TriggerType.EXTERNAL, simple)
    assert told(run) == STORY


def test_what_no_push_has_told_the_next_look_tells(pair: Pair, client: AirflowClient, simple: Workflow) -> None:
    """Nobody listens where the plugin pushes to: it may as well not be there."""
    run = trigger(simple)
    until(lambda: ended_in_airflow(client, run.dag_run_id), within=60)
    assert told(run) == STORY[:1]

    look()

    assert told(run) == STORY


def test_a_web_process_that_dies_between_two_pushes_leaves_the_rest_to_the_next_look(
    pair: Pair, client: AirflowClient, simple: Workflow
) -> None:
    pair.web.begin()
    pair.web.wait_until_ready()
    run = trigger(simple)
    until(lambda: ("workflow.started", "") in told(run), within=60)
    pair.web.end(signal.SIGKILL)
    until(lambda: ended_in_airflow(client, run.dag_run_id), within=60)

    look()

    assert told(run) == STORY


def test_a_dag_paused_and_resumed_in_airflow_becomes_a_change_of_the_dag(
    client: AirflowClient, simple: Workflow
) -> None:
    start = outbox.head()
    for is_paused in (True, False):
        insist(lambda paused=is_paused: client.dags.set_paused(DAG, paused))  # type: ignore[misc]
        insist(lambda: dag_sync.sync_dags(now=timezone.now()))
        assert Dag.objects.get(dag_id=DAG).is_paused is is_paused

    changes = Event.objects.filter(position__gt=start, type="dag.synced").order_by("position")
    assert [event.data for event in changes] == [{"dag_id": DAG, "changed": ["is_paused"]}] * 2
