"""What a run and a task instance can go through on a real Airflow 3, with polls alone: each poll sees it as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role, User
from runner.versions import is_airflow_2
from workflows import gateway, services
from workflows.airflow import AirflowClient
from workflows.models import Airflow, Dag, Run, TaskInstance, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.states import TERMINAL
from workflows.tests.real import connect_to, serve
from workflows.tests.test_real_airflow import insist
from workflows.watch import dags, poll

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(is_airflow_2(), reason="the DAGs are for Airflow 3"),
]

# The deferred task goes on when its start is too old for the feed by starts (overlap, and `feeds.STORED_WITHIN`).
DAGS = """
from __future__ import annotations

import datetime
import time

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, task

NEVER = {"schedule": None, "start_date": datetime.datetime(2024, 1, 1)}


class Deferred(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(datetime.timedelta(seconds=45)), method_name="go_on")

    def go_on(self, context, event=None):
        time.sleep(20)


with DAG("deferred", **NEVER):
    Deferred(task_id="deferred")

with DAG("sensor", **NEVER):

    @task.sensor(poke_interval=15, mode="reschedule", timeout=600)
    def sensor(**context):
        return bool(context["ti"].get_first_reschedule_date(context))

    sensor()

with DAG("retried", **NEVER):

    @task(retries=1, retry_delay=datetime.timedelta(seconds=10))
    def flaky(**context):
        time.sleep(3)
        if context["ti"].try_number == 1:
            raise ValueError

    @task
    def after():
        time.sleep(3)

    flaky() >> after()

with DAG("mapped", **NEVER):

    @task
    def parts():
        return [1, 2, 3]

    @task
    def part(number):
        time.sleep(2)

    part.expand(number=parts())

with DAG("branched", **NEVER):

    @task.branch
    def branch():
        return "taken"

    @task
    def taken():
        raise ValueError

    @task
    def left():
        pass

    @task
    def behind():
        pass

    branch() >> [taken_ := taken(), left()]
    taken_ >> behind()

with DAG("long", **NEVER):

    @task
    def long():
        time.sleep(300)

    @task
    def never():
        pass

    long() >> never()
"""
IDS = ["branched", "deferred", "long", "mapped", "retried", "sensor"]
# The machine may be busy.
WITHIN = 300

Shown = dict[tuple[str, ...], str]


@pytest.fixture
def client(tmp_path: Path, settings: Settings) -> Iterator[AirflowClient]:
    with serve(DAGS, home=tmp_path) as served, connect_to(served, settings) as client:
        yield client


@pytest.fixture
def runs(client: AirflowClient) -> dict[str, Run]:
    """A run of each DAG that has been triggered."""
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
    workflows = [
        services.create_workflow(owner=owner, dag=dag, name=dag.dag_id) for dag in Dag.objects.filter(dag_id__in=IDS)
    ]
    return {workflow.dag.dag_id: trigger(workflow) for workflow in workflows}


def trigger(workflow: Workflow) -> Run:
    return services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API)


def in_airflow(client: AirflowClient, runs: Collection[Run]) -> Shown:
    """Return the state of each run and task instance in Airflow."""
    by_dag = {run.dag_id: [run.dag_run_id] for run in runs}
    tasks = insist(lambda: client.tasks.list(dag_run_ids=by_dag))
    shown = {(run.dag_id,): run.state for run in insist(lambda: client.runs.list(dag_ids=list(by_dag)))}
    return shown | {(task.dag_id, task.task_id, str(task.map_index)): task.state or "" for task in tasks}


def here(runs: Collection[Run]) -> Shown:
    shown = {(run.dag_id,): run.state for run in Run.objects.filter(pk__in=[run.pk for run in runs])}
    tasks = TaskInstance.objects.filter(run__in=runs).select_related("run")
    return shown | {(task.run.dag_id, task.task_id, str(task.map_index)): task.state for task in tasks}


def follow(
    client: AirflowClient, runs: Collection[Run], until: Callable[[Shown], bool]
) -> set[tuple[tuple[str, ...], str]]:
    """Poll until the condition holds. After each poll, what has not changed meanwhile is known as Airflow shows it.

    A run that changes between the requests of a poll is seen by the next one, and its tasks wait for it. Return each
    state that was compared.
    """
    compared: set[tuple[tuple[str, ...], str]] = set()
    deadline = time.monotonic() + WITHIN
    before = in_airflow(client, runs)
    while True:
        # No sweep: it would find what the polls miss.
        Airflow.objects.update(swept_at=timezone.now())
        gateway.breaker(DEFAULT).close()
        is_polled = poll.tick(DEFAULT, now=timezone.now())
        ours, after = here(runs), in_airflow(client, runs)
        same = {key: state for key, state in before.items() if after.get(key) == state}
        steady = {key: state for key, state in same.items() if key[:1] in same}
        if is_polled:
            assert {key: ours.get(key) for key in steady} == steady
            compared |= steady.items()
        if until(ours):
            return compared
        assert time.monotonic() < deadline, ours
        before = after


def have_ended(*dag_ids: str) -> Callable[[Shown], bool]:
    return lambda shown: all(shown[dag_id,] in TERMINAL for dag_id in dag_ids)


@pytest.mark.timeout(1500)
def test_each_poll_sees_every_run_and_task_as_airflow_shows_it(client: AirflowClient, runs: dict[str, Run]) -> None:
    Airflow.default()
    all_runs = list(runs.values())
    by_itself = [dag_id for dag_id in IDS if dag_id != "long"]

    compared = follow(client, all_runs, have_ended(*by_itself))

    assert compared >= {
        (("deferred", "deferred", "-1"), "deferred"),
        (("deferred", "deferred", "-1"), "running"),
        (("sensor", "sensor", "-1"), "up_for_reschedule"),
        (("retried", "flaky", "-1"), "up_for_retry"),
        (("long", "long", "-1"), "running"),
        (("long", "never", "-1"), ""),
        (("long",), "running"),
        *((("mapped", "part", str(index)), "success") for index in range(3)),
        (("branched", "left", "-1"), "skipped"),
        (("branched", "behind", "-1"), "upstream_failed"),
        (("branched",), "failed"),
        (("sensor",), "success"),
    }

    # What people do in Airflow: clear, mark a run that runs, mark one that has ended, mark a task.
    insist(lambda: client.runs.clear("retried", runs["retried"].dag_run_id, dry_run=False))
    insist(lambda: client.runs.set_state("long", runs["long"].dag_run_id, "failed"))
    insist(lambda: client.runs.set_state("sensor", runs["sensor"].dag_run_id, "failed"))
    mark(runs["branched"], "taken", "success")
    compared = follow(
        client,
        all_runs,
        lambda shown: (
            have_ended(*IDS)(shown)
            and (shown["sensor",], shown["branched",]) == ("failed", "success")
            and Run.objects.get(pk=runs["retried"].pk).attempt == 2
        ),
    )

    assert compared >= {
        (("long", "never", "-1"), "skipped"),
        (("long", "long", "-1"), "failed"),
        (("sensor",), "failed"),
        (("branched", "taken", "-1"), "success"),
        (("branched", "behind", "-1"), "success"),
    }


def mark(run: Run, task_id: str, state: str) -> None:
    """Mark a task, as a person does it in Airflow."""
    login = {"username": settings.AIRFLOW_USERNAME, "password": settings.AIRFLOW_PASSWORD}
    token = requests.post(f"{settings.AIRFLOW_URL}/auth/token", json=login, timeout=30).json()["access_token"]
    url = f"{settings.AIRFLOW_URL}/api/v2/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/{task_id}"
    headers: dict[str, Any] = {"Authorization": f"Bearer {token}"}
    requests.patch(url, json={"new_state": state}, headers=headers, timeout=60).raise_for_status()
