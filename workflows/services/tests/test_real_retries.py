"""Retries on a real Airflow 3, with DAGs that were cut off, have setups, or skip on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from accounts.models import Role, User
from runner.testing import Served
from runner.versions import is_airflow_2
from workflows import services
from workflows.airflow import AirflowClient
from workflows.models import Run, TriggerType, Workflow
from workflows.tests.real import connect_to, ended, serve, synced, until

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(is_airflow_2(), reason="the DAGs are for Airflow 3"),
]

DAGS = """
from __future__ import annotations

import datetime
import time

from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG, setup, task, task_group, teardown

START = datetime.datetime(2024, 1, 1)


def fail_once(context):
    if context["ti"].try_number == 1:
        raise RuntimeError("the first try fails")


with DAG("retry_timeout", schedule=None, start_date=START, dagrun_timeout=datetime.timedelta(seconds=20)):

    @task
    def slow(**context):
        time.sleep(90 if context["ti"].try_number == 1 else 0)

    @task
    def behind():
        pass

    slow() >> behind()

with DAG("retry_setup", schedule=None, start_date=START):

    @setup
    def make_place():
        pass

    @task
    def use_place(**context):
        fail_once(context)

    @teardown
    def delete_place():
        pass

    made, gone = make_place(), delete_place()
    made >> use_place() >> gone
    made >> gone

with DAG("retry_branch", schedule=None, start_date=START):
    gate = ShortCircuitOperator(task_id="gate", python_callable=lambda: False)

    @task
    def never():
        pass

    @task
    def beside(**context):
        fail_once(context)

    gate >> never()
    beside()

with DAG("retry_mapped", schedule=None, start_date=START):

    @task
    def part(number, **context):
        if number == 1:
            fail_once(context)

    @task(trigger_rule="all_done")
    def collect():
        pass

    @task_group
    def chunk(number):
        @task
        def load(number, **context):
            if number == 0:
                fail_once(context)

        @task
        def check():
            pass

        load(number) >> check()

    part.expand(number=[0, 1, 2]) >> collect()
    chunk.expand(number=[0, 1])

with DAG("retry_marked", schedule=None, start_date=START):

    @task
    def first():
        pass

    @task
    def long(**context):
        time.sleep(90 if context["ti"].try_number == 1 else 0)

    @task
    def last():
        pass

    first() >> long() >> last()
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


def workflow_over(dag_id: str) -> Workflow:
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    return services.create_workflow(owner=owner, dag=synced(dag_id), name=dag_id)


def trigger(workflow: Workflow) -> Run:
    return services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API)


def outcome(run: Run) -> dict[str, tuple[str, int]]:
    return {str(task): (task.state, task.try_number) for task in run.tasks.all()}


def previewed(run: Run) -> list[str]:
    return [name if index < 0 else f"{name}[{index}]" for name, index in services.preview_retry(run=run)]


def test_a_run_that_timed_out_repeats_all_that_was_cut_off(client: AirflowClient) -> None:
    workflow = workflow_over("retry_timeout")
    run = ended(trigger(workflow))
    assert run.state == "failed"

    would_run = previewed(run)
    run = ended(services.retry_run(run=run, actor=workflow.owner))

    assert would_run == ["behind", "slow"]
    assert (run.state, {name: state for name, (state, _) in outcome(run).items()}) == (
        "success",
        {"slow": "success", "behind": "success"},
    )


def test_a_run_marked_failed_while_a_task_ran_repeats_what_was_cut_off(client: AirflowClient) -> None:
    workflow = workflow_over("retry_marked")
    run = until(trigger(workflow), lambda seen: seen.tasks.filter(task_id="long", state="running").exists())
    client.runs.set_state(run.dag_id, run.dag_run_id, "failed")
    run = ended(run)

    would_run = previewed(run)
    run = ended(services.retry_run(run=run, actor=workflow.owner))

    assert would_run == ["last", "long"]
    assert run.state == "success"
    assert outcome(run) == {"first": ("success", 1), "long": ("success", 2), "last": ("success", 1)}


def test_the_setup_and_the_teardown_around_a_failed_task_run_again(client: AirflowClient) -> None:
    workflow = workflow_over("retry_setup")
    roles = {task["task_id"]: task["role"] for task in workflow.dag.tasks}
    run = ended(trigger(workflow))

    would_run = previewed(run)
    run = ended(services.retry_run(run=run, actor=workflow.owner))

    assert roles == {"make_place": "setup", "use_place": None, "delete_place": "teardown"}
    assert would_run == ["delete_place", "make_place", "use_place"]
    assert run.state == "success"
    assert outcome(run) == dict.fromkeys(("make_place", "use_place", "delete_place"), ("success", 2))


def test_what_a_short_circuit_skipped_stays_skipped(client: AirflowClient) -> None:
    workflow = workflow_over("retry_branch")
    run = ended(trigger(workflow))

    would_run = previewed(run)
    run = ended(services.retry_run(run=run, actor=workflow.owner))

    assert would_run == ["beside"]
    assert run.state == "success"
    states = outcome(run)
    assert (states["gate"], states["never"][0], states["beside"]) == (("success", 1), "skipped", ("success", 2))


def test_single_instances_of_mapped_tasks_run_again(client: AirflowClient) -> None:
    workflow = workflow_over("retry_mapped")
    run = ended(trigger(workflow))
    assert run.state == "failed"

    would_run = previewed(run)
    run = ended(services.retry_run(run=run, actor=workflow.owner))

    assert would_run == ["chunk.check[0]", "chunk.load[0]", "collect", "part[1]"]
    assert run.state == "success"
    tries = {name: number for name, (_, number) in outcome(run).items()}
    assert tries == {
        "part[0]": 1, "part[1]": 2, "part[2]": 1, "collect": 2,
        "chunk.load[0]": 2, "chunk.load[1]": 1, "chunk.check[0]": 1, "chunk.check[1]": 1,
    }  # fmt: skip

    run = ended(services.retry_run(run=run, actor=workflow.owner, mode="from_task", task_id="chunk.load", map_index=1))

    again = {name: number for name, (_, number) in outcome(run).items() if number != tries[name]}
    assert (run.state, again) == ("success", {"chunk.load[1]": 2, "chunk.check[1]": 2})
