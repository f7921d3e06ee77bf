"""Tasks of a real Airflow 3.3 that wait for a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role, User
from runner.testing import Served
from runner.versions import is_before
from workflows import explain, services
from workflows.airflow import AirflowClient
from workflows.models import Run, TriggerType, Workflow
from workflows.tests.real import connect_to, ended, serve, synced, until
from workflows.tests.stage import story

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(is_before(3, 1), reason="this Airflow has no tasks that wait for a person"),
]

DAGS = """
from __future__ import annotations

import datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Param

with DAG("asks", schedule=None, start_date=datetime.datetime(2024, 1, 1)):
    approve = HITLOperator(
        task_id="approve",
        subject="May {{ dag.dag_id }} go on?",
        body="**Look** first.",
        options=["Yes", "No"],
        defaults=["No"],
        params={"reason": Param("", type="string", title="Why")},
        assigned_users=[{"id": "admin", "name": "admin"}],
    )
    approve >> EmptyOperator(task_id="after")

with DAG("asks_briefly", schedule=None, start_date=datetime.datetime(2024, 1, 1)):
    timeout = datetime.timedelta(seconds=1)
    HITLOperator(task_id="approve", subject="Quick?", options=["Yes", "No"], defaults=["No"], response_timeout=timeout)
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An Airflow that has the DAGs above beside the examples."""
    with serve(DAGS, home=tmp_path_factory.mktemp("airflow")) as served:
        yield served


@pytest.fixture
def client(served: Served, settings: Settings) -> Iterator[AirflowClient]:
    with connect_to(served, settings) as client:
        yield client


def until_true(holds: Callable[[], bool]) -> None:
    """Wait without a poll of SVOps."""
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def until_its_process_is_gone(client: AirflowClient) -> None:
    """Wait until the scheduler has seen the end of the process that has asked: for its third heartbeat from now.

    Airflow 3.3.2 schedules an answered task at once. If the end of the process comes after that, Airflow takes the task
    for killed and fails it.
    """
    heartbeats = set()

    def are_three() -> bool:
        heartbeats.add(client.health().scheduler.latest_heartbeat)
        return len(heartbeats) > 3

    until_true(are_three)


def is_asked(run: Run) -> bool:
    return run.events.filter(type="task.awaiting_input").exists()


def triggered(dag_id: str) -> Run:
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    workflow: Workflow = services.create_workflow(owner=owner, dag=synced(dag_id), name=dag_id)
    return services.trigger_run(workflow=workflow, user=owner, trigger_type=TriggerType.API)


def answer(served: Served, run: Run, **body: Any) -> None:
    """Answer as the account of the tests, as Airflow's page does."""
    url, names = served.exports["AIRFLOW_URL"], ("USERNAME", "PASSWORD")
    account = {name.lower(): served.exports[f"AIRFLOW_{name}"] for name in names}
    token = requests.post(f"{url}/auth/token", json=account, timeout=30).json()["access_token"]
    path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/approve/-1/hitlDetails"
    answered = requests.patch(f"{url}{path}", json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answered.status_code == 200, answered.text


def test_a_question_is_asked_explained_answered_and_the_run_ends(client: AirflowClient, served: Served) -> None:
    run = until(triggered("asks"), is_asked)

    [reason] = explain.explain(run, now=timezone.now(), may_retry=True, may_see_logs=True)
    assert (reason.code, reason.who) == ("awaiting_input", "respondent")
    assert reason.reason == "approve waits for a person to answer: May asks go on? Options: Yes, No."
    assert reason.action == "Answer it in Airflow. Only these accounts may: admin."
    asked = run.events.get(type="task.awaiting_input").data
    theirs = client.tasks.get(run.dag_id, run.dag_run_id, "approve")
    assert asked["instance_id"] == theirs.id
    assert asked["params"]["reason"]["schema"] == {"type": "string", "title": "Why"}
    assert (asked["body"], asked["defaults"], asked["multiple"]) == ("**Look** first.", ["No"], False)

    until_its_process_is_gone(client)
    answer(served, run, chosen_options=["Yes"], params_input={"reason": "fine"})
    run = ended(run)

    assert story(run)[:5] == [
        "workflow.triggered",
        "workflow.started",
        "task.started approve 1",
        "task.awaiting_input approve 1",
        "task.input_received approve 1",
    ]
    received = run.events.get(type="task.input_received").data
    assert (received["chosen"], received["params"], received["by"]) == (["Yes"], {"reason": "fine"}, "admin")
    assert story(run)[-1] == "workflow.completed"


def test_a_question_that_is_answered_between_two_polls_is_told_before_the_end(
    client: AirflowClient, served: Served
) -> None:
    run = triggered("asks")
    until_true(lambda: bool(client.tasks.questions(dag_ids={"asks"}, states={"awaiting_input"})))
    until_its_process_is_gone(client)
    answer(served, run, chosen_options=["Yes"], params_input={"reason": "fine"})
    until_true(lambda: client.runs.get(run.dag_id, run.dag_run_id).state == "success")

    run = ended(run)

    assert story(run) == [
        "workflow.triggered",
        "workflow.started",
        "task.started approve 1",
        "task.awaiting_input approve 1",
        "task.input_received approve 1",
        "task.completed approve 1",
        "task.started after 1",
        "task.completed after 1",
        "workflow.completed",
    ]
    asked = run.events.get(type="task.awaiting_input")
    received = run.events.get(type="task.input_received")
    completed = run.events.get(type="task.completed", task_id="approve")
    assert asked.data["subject"] == "May asks go on?"
    assert (received.data["chosen"], received.data["by"]) == (["Yes"], "admin")
    assert asked.timestamp < received.timestamp < completed.timestamp


def test_the_defaults_after_a_timeout_are_an_answer_of_nobody(client: AirflowClient) -> None:
    run = ended(triggered("asks_briefly"))

    assert story(run) == [
        "workflow.triggered",
        "workflow.started",
        "task.started approve 1",
        "task.awaiting_input approve 1",
        "task.input_received approve 1",
        "task.completed approve 1",
        "workflow.completed",
    ]
    received = run.events.get(type="task.input_received").data
    assert (received["chosen"], received["by"]) == (["No"], "")


def test_a_run_that_waits_for_a_person_is_stopped(client: AirflowClient) -> None:
    run = until(triggered("asks"), is_asked)

    services.stop_run(run=run, actor=run.workflow.owner)
    run = ended(run)

    assert (run.state, story(run)[-1]) == ("stopped", "workflow.stopped")
    assert story(run).count("task.started approve 1") == 1
    assert {task.task_id: task.has_ended for task in run.tasks.all()} == {"approve": True, "after": True}
