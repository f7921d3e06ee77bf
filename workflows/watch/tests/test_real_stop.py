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
from workflows import services
from workflows.airflow import AirflowClient
from workflows.models import Dag, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.tests.real import connect
from workflows.watch import dags, poll

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
    """The client of our own application, pointed at the real Airflow."""
    server = airflow_server
    with connect(settings, url=server.url, username=server.username, password=server.password) as client:
        yield client


@pytest.fixture
def simple(client: AirflowClient, ada: User) -> Workflow:
    dags.sync_dags(DEFAULT, now=timezone.now())
    return Workflow.objects.create(name="Simple", dag=Dag.objects.get(dag_id=DAG), owner=ada)


def triggered(workflow: Workflow, user: User, **parameters: object) -> Run:
    request = services.RunRequest(parameters=parameters)
    return services.trigger_run(workflow=workflow, user=user, trigger_type=TriggerType.API, request=request)


def looked_at(run: Run) -> Run:
    poll.tick(DEFAULT, now=timezone.now())
    return Run.objects.get(pk=run.pk)


def watch(run: Run, holds: Callable[[Run], bool], *, within: float) -> Run:
    """Poll Airflow, as beat does, until the condition holds."""
    deadline = time.monotonic() + within
    while not holds(run := looked_at(run)):
        assert time.monotonic() < deadline, (run.state, list(run.tasks.values("task_id", "state")))
    return run


def process_of(client: AirflowClient, run: Run) -> int:
    """Return the process that works on `processing`; 0 if there is none yet."""
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


def test_a_stop_right_after_the_trigger_is_complete_when_it_has_settled(
    client: AirflowClient, simple: Workflow, ada: User, settings: Settings
) -> None:
    client.dags.set_paused(DAG, True)
    try:
        began = time.monotonic()
        run = looked_at(triggered(simple, ada))
        usual = time.monotonic() - began
        services.stop_run(run=run, actor=ada)
        watch(run, lambda seen: seen.state == "stopped", within=30)
        took = time.monotonic() - began - usual
    finally:
        client.dags.set_paused(DAG, False)

    # Airflow needs no grace for processes here, but a busy machine needs its time.
    assert settings.STOP_SETTLE <= took < settings.STOP_SETTLE + max(5, 5 * usual)
    assert not run.events.filter(type="task.started").exists()
