"""A stop against a real Airflow: when SVOps says `stopped`, the process is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from workflows import dag_sync, reconcile, services, upstream
from workflows.airflow import AirflowClient
from workflows.models import Dag, Run, TriggerType, Workflow

pytestmark = [pytest.mark.airflow, pytest.mark.django_db]

DAG = "simple_workflow_example"


class Server(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str: ...


@pytest.fixture
def client(airflow_server: Server, settings: Settings) -> Iterator[AirflowClient]:
    """That of our own application, pointed at the real Airflow."""
    settings.AIRFLOW_URL = airflow_server.url
    settings.AIRFLOW_USERNAME = airflow_server.username
    settings.AIRFLOW_PASSWORD = airflow_server.password
    settings.AIRFLOW_READ_TIMEOUT = 30
    upstream.airflow.cache_clear()
    yield upstream.airflow()
    upstream.airflow().close()
    upstream.airflow.cache_clear()


@pytest.fixture
def simple(client: AirflowClient, ada: User) -> Workflow:
    dag_sync.sync_dags(now=timezone.now())
    return Workflow.objects.create(name="Simple", dag=Dag.objects.get(dag_id=DAG), owner=ada)


def triggered(workflow: Workflow, user: User, **parameters: object) -> Run:
    return services.trigger_run(workflow=workflow, user=user, trigger_type=TriggerType.API, given=parameters)


def looked_at(run: Run) -> Run:
    reconcile.tick(now=timezone.now())
    return Run.objects.get(pk=run.pk)


def watch(run: Run, holds: Callable[[Run], bool], *, within: float) -> Run:
    """Look at Airflow, as beat does, until it holds."""
    deadline = time.monotonic() + within
    while not holds(run := looked_at(run)):
        assert time.monotonic() < deadline, (run.state, list(run.tasks.values("task_id", "state")))
    return run


def process_of(client: AirflowClient, run: Run) -> int:
    """The process that works on `processing`; 0 if there is none yet."""
    task = client.tasks.get(run.dag_id, run.dag_run_id, "processing")
    if task.state != "running":
        return 0
    lines = client.tasks.log_lines(run.dag_id, run.dag_run_id, "processing", try_number=task.try_number)
    return next((int(line.text.split()[3]) for line in lines if line.text.startswith("processing in process ")), 0)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("ignores", [False, True], ids=["listens", "ignores signals"])
def test_the_process_of_a_stopped_run_is_gone(
    client: AirflowClient, simple: Workflow, ada: User, ignores: bool
) -> None:
    run = triggered(simple, ada, processing_time=300, ignore_signals=ignores)
    watch(run, lambda _: process_of(client, run) > 0, within=120)
    pid = process_of(client, run)

    services.stop_run(run=run, actor=ada)
    run = watch(run, lambda seen: seen.ended_at is not None, within=60)
    was_alive = is_alive(pid)
    run = watch(run, lambda seen: seen.state == "stopped", within=120)
    gone = not is_alive(pid)

    assert (was_alive, gone) == (True, True)
    states = {task.task_id: task.state for task in run.tasks.all()}
    assert states == {"start": "success", "processing": "failed", "completion": "skipped"}
    assert run.stop_requested_at is not None
    assert run.ended_at is not None
    assert run.ended_at > run.stop_requested_at


def test_a_stop_right_after_the_trigger_is_complete_at_once(client: AirflowClient, simple: Workflow, ada: User) -> None:
    client.dags.set_paused(DAG, True)
    try:
        run = triggered(simple, ada)
        asked = time.monotonic()
        services.stop_run(run=run, actor=ada)
        watch(run, lambda seen: seen.state == "stopped", within=30)
        took = time.monotonic() - asked
    finally:
        client.dags.set_paused(DAG, False)

    assert took < 5
    assert not run.events.filter(type="task.started").exists()
