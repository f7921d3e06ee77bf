"""Tasks that wait, a pause, and a deletion on a real Airflow 3: what the staged one cannot prove."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from django.conf import settings
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role, User
from runner.versions import is_airflow_2
from workflows import services
from workflows.airflow import AirflowClient
from workflows.models import Airflow, Dag, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.tests.real import SOURCE, connect_to, serve, until, work
from workflows.tests.stage import story
from workflows.tests.test_real_airflow import insist
from workflows.watch import dags

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(is_airflow_2(), reason="the DAG is for Airflow 3"),
]

# Each waits so long that a busy scheduler has heard of the end of the process before the task goes on. Otherwise
# Airflow takes that end for the end of the task, and fails it.
DAG = """
from __future__ import annotations

import datetime
import os
import time

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, task

FOLDER = {folder!r}


class Deferred(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(datetime.timedelta(seconds=15)), method_name="go_on")

    def go_on(self, context, event=None):
        open(os.path.join(FOLDER, "goes_on"), "w").close()
        while not os.path.exists(os.path.join(FOLDER, "may_end")):
            time.sleep(0.2)


with DAG("waits", schedule=None, start_date=datetime.datetime(2024, 1, 1)):

    @task.sensor(poke_interval=15, mode="reschedule", timeout=600)
    def sensor(**context):
        first = context["ti"].get_first_reschedule_date(context)
        return bool(first)

    sensor() >> Deferred(task_id="deferred")
"""
# The machine may be busy.
WITHIN = 240


@pytest.fixture
def client(tmp_path: Path, settings: Settings) -> Iterator[AirflowClient]:
    """The client of an Airflow that has the DAG above beside the examples."""
    with serve(DAG.format(folder=str(tmp_path)), home=tmp_path) as served, connect_to(served, settings) as client:
        yield client


@pytest.fixture
def waits(client: AirflowClient) -> Workflow:
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
    return services.create_workflow(owner=owner, dag=Dag.objects.get(dag_id="waits"), name="Waits")


@pytest.mark.timeout(900)
def test_waiting_tasks_count_from_their_first_start_a_pause_waits_for_them_and_a_deleted_dag_is_found(
    client: AirflowClient, waits: Workflow, tmp_path: Path
) -> None:
    run = services.trigger_run(workflow=waits, user=waits.owner, trigger_type=TriggerType.API)
    goes_on = tmp_path / "goes_on"
    until(run, lambda run: goes_on.exists() and is_at_work(run), within=WITHIN)

    insist(lambda: client.dags.set_paused("waits", True))
    until(run, lambda run: run.is_pausing, within=WITHIN)
    was_paused = run.is_paused
    (tmp_path / "may_end").touch()
    until(run, lambda run: run.is_paused, within=WITHIN)
    insist(lambda: client.dags.set_paused("waits", False))
    until(run, lambda run: run.is_terminal, within=WITHIN)

    assert not was_paused
    assert story(run)[-5:] == [
        "task.started deferred 1",
        "workflow.paused",
        "task.completed deferred 1",
        "workflow.resumed",
        "workflow.completed",
    ]
    sensor, deferred = (run.tasks.get(task_id=task_id) for task_id in ("sensor", "deferred"))
    for task in (sensor, deferred):
        completed = run.events.get(type="task.completed", task_id=task.task_id)
        assert task.duration() == timedelta(seconds=completed.data["duration_s"])
        assert completed.data["duration_s"] > 15
    # Airflow's own start is that of the last poke.
    last_poke, started_at = client.tasks.get(run.dag_id, run.dag_run_id, "sensor").start_date, sensor.started_at
    assert last_poke is not None
    assert started_at is not None
    assert last_poke > started_at + timedelta(seconds=15)

    (tmp_path / "dags" / SOURCE).unlink()
    delete_dag("waits")
    for _ in range(2):
        Airflow.objects.update(swept_at=None)
        work()

    run.refresh_from_db()
    assert (run.state, story(run)[-2:]) == ("success", ["workflow.completed", "workflow.external_change deleted"])
    insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
    assert not Dag.objects.get(dag_id="waits").is_present


def delete_dag(dag_id: str) -> None:
    """Delete a DAG in Airflow with all its runs, as a user does there."""
    login = {"username": settings.AIRFLOW_USERNAME, "password": settings.AIRFLOW_PASSWORD}
    token = requests.post(f"{settings.AIRFLOW_URL}/auth/token", json=login, timeout=60).json()["access_token"]
    answer = requests.delete(
        f"{settings.AIRFLOW_URL}/api/v2/dags/{dag_id}", headers={"Authorization": f"Bearer {token}"}, timeout=60
    )
    assert answer.ok, answer.text


def is_at_work(run: Run) -> bool:
    return run.tasks.filter(task_id="deferred", state="running").exists()
