"""A real Airflow with the plugin: changes there arrive by push, and without the push by the next poll."""

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
from runner.home import Home
from runner.ports import free_port
from runner.testing import Served
from tests.live import log
from tests.live.conftest import new_workflow, token_of
from tests.live.parts import Web, until
from tests.live.pushes import SECRET
from tests.live.readers import Loop, WebSocketReader, have, reading
from workflows import gateway, services
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowUnavailableError
from workflows.eventlog import publication
from workflows.models import Airflow, Dag, Event, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.watch import dags, poll

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
    """An Airflow, and the web process to which its plugin pushes if that process runs."""

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
    passed_on = {"AIRFLOW_TASK_ENV": "SVOPS_INGEST_*"}
    served = Served("airflow", home=home.path, env={"AIRFLOW_PORT": str(port), **push, **passed_on})
    yield Pair(url, password, web)
    served.stop()


@pytest.fixture
def client(pair: Pair, settings: Settings) -> Iterator[AirflowClient]:
    settings.AIRFLOW_URL, settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = pair.url, "admin", pair.password
    gateway.pooled_client.cache_clear()
    gateway.breaker(DEFAULT).close()
    yield gateway.client_of(DEFAULT)
    gateway.client_of(DEFAULT).close()
    gateway.pooled_client.cache_clear()


@pytest.fixture
def simple(client: AirflowClient, ada: User) -> Iterator[Workflow]:
    insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
    Airflow.default()
    workflow = new_workflow(ada, dag_id=DAG)
    yield workflow
    # The oldest workflow of a DAG adopts runs, and the next test has its own workflow.
    Workflow.objects.filter(pk=workflow.pk).update(deleted_at=timezone.now())


def insist(write: Callable[[], T]) -> T:
    """Repeat while Airflow says "not now", as it sometimes does on SQLite."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return write()
        except AirflowUnavailableError:
            assert time.monotonic() < deadline


def trigger(workflow: Workflow) -> Run:
    request = services.RunRequest(parameters={"processing_time": 0}, caller_task_ref=7)
    run = services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)
    assert run.state == "queued"
    return run


def events_of(run: Run) -> list[tuple[str, str]]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", "task_id"))


def ended_in_airflow(client: AirflowClient, dag_run_id: str) -> bool:
    return client.runs.get(DAG, dag_run_id).state == "success"


def poll_airflow() -> None:
    gateway.breaker(DEFAULT).close()
    Airflow.objects.update(swept_at=timezone.now())
    until(lambda: poll.tick(DEFAULT, now=timezone.now()), within=60)


def test_pushes_alone_bring_all_events_of_a_run_and_a_poll_adds_nothing(
    pair: Pair, simple: Workflow, loop: Loop, ada: User
) -> None:
    with pair.web:
        start = publication.head()
        reader = WebSocketReader(bases=[pair.web.url], token=token_of(ada), cursor=start, path=f"/workflow/{simple.pk}")
        with reading(loop, [reader]):
            run = trigger(simple)

            until(lambda: len(events_of(run)) >= len(STORY), within=60, or_say=lambda: events_of(run))
            assert events_of(run) == STORY
            have([reader], log.ids_after(start, [run]), within=5)
        poll_airflow()

    assert events_of(run) == STORY


def test_a_run_started_in_airflow_is_adopted_by_a_push(pair: Pair, client: AirflowClient, simple: Workflow) -> None:
    name = f"by_hand__{uuid.uuid4().hex}"
    with pair.web:
        insist(lambda: client.runs.trigger(DAG, dag_run_id=name, conf={"processing_time": 0}, note="by hand"))

        until(lambda: Run.objects.filter(dag_run_id=name, state="success").exists(), within=60)

    run = Run.objects.get(dag_run_id=name)
    assert (run.trigger_type, run.workflow) == (TriggerType.EXTERNAL, simple)
    assert (run.parameters, run.note) == ({"processing_time": 0}, "by hand")
    assert events_of(run) == STORY


def test_events_that_were_not_pushed_are_recorded_by_the_next_poll(
    pair: Pair, client: AirflowClient, simple: Workflow
) -> None:
    """Nothing listens at the address to which the plugin pushes, as if there were no plugin."""
    run = trigger(simple)
    until(lambda: ended_in_airflow(client, run.dag_run_id), within=60)
    assert events_of(run) == STORY[:1]

    poll_airflow()

    assert events_of(run) == STORY


def test_after_a_web_process_died_between_two_pushes_the_next_poll_records_the_rest(
    pair: Pair, client: AirflowClient, simple: Workflow
) -> None:
    pair.web.begin()
    pair.web.wait_until_ready()
    run = trigger(simple)
    until(lambda: ("workflow.started", "") in events_of(run), within=60)
    pair.web.end(signal.SIGKILL)
    until(lambda: ended_in_airflow(client, run.dag_run_id), within=60)

    poll_airflow()

    assert events_of(run) == STORY


def test_a_dag_paused_and_resumed_in_airflow_becomes_a_change_of_the_dag(
    client: AirflowClient, simple: Workflow
) -> None:
    start = publication.head()
    for is_paused in (True, False):
        insist(lambda paused=is_paused: client.dags.set_paused(DAG, paused))  # type: ignore[misc]
        insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
        assert Dag.objects.get(dag_id=DAG).is_paused is is_paused

    changes = Event.objects.filter(position__gt=start, type="dag.synced").order_by("position")
    assert [event.data for event in changes] == [{"airflow": DEFAULT, "dag_id": DAG, "changed": ["is_paused"]}] * 2
