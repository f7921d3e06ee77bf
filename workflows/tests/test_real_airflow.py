"""The core on a real Airflow, with the example DAGs; what the staged one can not prove."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Role, User
from conftest import AirflowServer
from svops.errors import InvalidInputError
from workflows import dag_sync, handover, reconcile, services, upstream
from workflows.airflow import AirflowClient, errors
from workflows.models import AirflowCommand, AirflowState, Dag, Event, Run, TriggerType, Workflow
from workflows.tests.stage import story

pytestmark = [pytest.mark.airflow, pytest.mark.django_db(transaction=True)]

DAG = "simple_workflow_example"
T = TypeVar("T")
HAPPY = [
    "workflow.triggered",
    "workflow.started",
    "task.started start 1",
    "task.completed start 1",
    "task.started processing 1",
    "task.completed processing 1",
    "task.started completion 1",
    "task.completed completion 1",
    "workflow.completed",
]


@pytest.fixture
def client(airflow_server: AirflowServer, settings: Settings) -> Iterator[AirflowClient]:
    settings.AIRFLOW_URL = airflow_server.url
    settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = airflow_server.username, airflow_server.password
    upstream.airflow.cache_clear()
    upstream.breaker().close()
    yield upstream.airflow()
    upstream.airflow().close()
    upstream.airflow.cache_clear()


@pytest.fixture
def simple(client: AirflowClient) -> Workflow:
    """A workflow over the simple example, synced from Airflow."""
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    insist(lambda: dag_sync.sync_dags(now=timezone.now()))
    dag = Dag.objects.get(dag_id=DAG)
    return services.create_workflow(owner=owner, dag=dag, name="Simple", default_parameters={"processing_time": 0})


def insist(write: Callable[[], T]) -> T:
    """Repeat while Airflow says "not now", as one on SQLite does at times."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return write()
        except errors.AirflowUnavailableError:
            assert time.monotonic() < deadline


def work() -> None:
    """What beat's tasks do, again and again."""
    upstream.breaker().close()
    reconcile.tick(now=timezone.now())
    AirflowCommand.objects.filter(finished_at__isnull=True).update(due_at=timezone.now())
    handover.carry_out_due(now=timezone.now())


def until(run: Run, holds: Callable[[Run], bool], *, within: float = 90) -> Run:
    """Work until the run is as it is waited for."""
    deadline = time.monotonic() + within
    while True:
        work()
        run.refresh_from_db()
        if holds(run):
            return run
        assert time.monotonic() < deadline, (run.state, run.state_reason, story(run))
        time.sleep(0.2)


def ended(run: Run) -> Run:
    return until(run, lambda run: run.is_terminal)


def started(run: Run, task_id: str) -> Run:
    return until(run, lambda run: run.tasks.filter(task_id=task_id, state="running").exists())


def trigger(workflow: Workflow, **given: Any) -> Run:
    return services.trigger_run(
        workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, given=given, task_id=7
    )


def test_the_example_is_mirrored_with_its_parameters_and_tasks(simple: Workflow) -> None:
    dag = simple.dag

    assert set(dag.params_schema["properties"]) == {"processing_time", "fail_task", "ignore_signals", "message"}
    assert dag.params_schema["required"] == []
    assert dag.params_schema["properties"]["processing_time"]["maximum"] == 3600
    assert {task["task_id"]: task["downstream_task_ids"] for task in dag.tasks} == {
        "start": ["processing"],
        "processing": ["completion"],
        "completion": [],
    }
    assert (dag.is_present, dag.import_error, dag.tags) == (True, "", ["example", "svops"])
    assert insist(lambda: dag_sync.sync_dags(now=timezone.now())).changed == []


def test_a_run_is_told_from_its_trigger_to_its_end_in_order(simple: Workflow, client: AirflowClient) -> None:
    run = ended(trigger(simple, message="hello"))

    assert story(run) == HAPPY
    assert (run.state, run.state_reason) == ("success", "")
    positions = [event.position for event in run.events.order_by("seq")]
    assert positions == sorted(position for position in positions if position)
    theirs = client.runs.get(run.dag_id, run.dag_run_id)
    assert (run.started_at, run.ended_at) == (theirs.start_date, theirs.end_date)
    assert theirs.conf == {"processing_time": 0, "message": "hello", "task_id": 7}
    assert {task.task_id: (task.state, task.try_number) for task in run.tasks.all()} == dict.fromkeys(
        ("start", "processing", "completion"), ("success", 1)
    )


def test_bad_parameters_never_reach_airflow(simple: Workflow, client: AirflowClient) -> None:
    before = {run.dag_run_id for run in client.runs.list(dag_ids=[DAG])}

    with pytest.raises(InvalidInputError) as refused:
        trigger(simple, processing_time=-1)

    assert refused.value.errors == {"parameters.processing_time": ["-1 is less than the minimum of 0"]}
    assert {run.dag_run_id for run in client.runs.list(dag_ids=[DAG])} == before
    assert Run.objects.count() == 0


def test_a_failed_run_names_its_task_and_is_retried(simple: Workflow) -> None:
    run = ended(trigger(simple, fail_task="processing"))

    assert story(run)[-4:] == [
        "task.started processing 1",
        "task.failed processing 1",
        "task.skipped completion 0",
        "workflow.failed",
    ]
    assert (run.state, run.state_reason) == ("failed", "failed in Airflow: processing")

    previews = {
        "failed": insist(lambda: services.preview_retry(run=run)),
        "all": insist(lambda: services.preview_retry(run=run, mode="all")),
        "from_task": insist(lambda: services.preview_retry(run=run, mode="from_task", task_id="completion")),
    }
    assert {mode: [task_id for task_id, _ in refs] for mode, refs in previews.items()} == {
        "failed": ["completion", "processing"],
        "all": ["completion", "processing", "start"],
        "from_task": ["completion"],
    }
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("failed", 1)

    told = len(story(run))
    run = ended(services.retry_run(run=run, actor=simple.owner))

    assert story(run)[told:] == [
        "workflow.retried",
        "workflow.started",
        "task.started processing 2",
        "task.completed processing 2",
        "task.started completion 1",
        "task.completed completion 1",
        "workflow.completed",
    ]
    assert (run.attempt, run.tasks.get(task_id="start").try_number) == (2, 1)


def test_a_run_is_retried_whole_and_from_a_task_on(simple: Workflow) -> None:
    run = ended(trigger(simple))
    told = len(story(run))

    run = ended(services.retry_run(run=run, actor=simple.owner, mode="from_task", task_id="completion"))
    assert story(run)[told:] == [
        "workflow.retried",
        "workflow.started",
        "task.started completion 2",
        "task.completed completion 2",
        "workflow.completed",
    ]

    run = ended(services.retry_run(run=run, actor=simple.owner, mode="all"))
    tries = {task.task_id: task.try_number for task in run.tasks.all()}
    assert tries == {"start": 2, "processing": 2, "completion": 3}
    assert (run.state, run.attempt) == ("success", 3)


def test_a_stopped_run_stays_stopped_and_its_retry_goes_on_to_the_end(simple: Workflow, client: AirflowClient) -> None:
    run = started(trigger(simple, processing_time=60), "processing")

    run = services.stop_run(run=run, actor=simple.owner, note="enough")
    assert run.state == "stopping"
    run = ended(run)

    assert run.state == "stopped"
    # Airflow ends both at once, in no order.
    assert sorted(story(run)[-3:-1]) == ["task.failed processing 1", "task.skipped completion 0"]
    assert story(run)[-1] == "workflow.stopped"
    states = {task.task_id: task.state for task in client.tasks.list(dag_run_ids={DAG: [run.dag_run_id]})}
    assert states == {"start": "success", "processing": "failed", "completion": "skipped"}
    AirflowState.objects.update(swept_at=None)
    work()
    run.refresh_from_db()
    assert run.state == "stopped"

    would_run = insist(lambda: services.preview_retry(run=run))
    assert [task_id for task_id, _ in would_run] == ["completion", "processing"]
    run = services.retry_run(run=run, actor=simple.owner)
    run = started(run, "processing")
    assert run.tasks.get(task_id="processing").try_number == 2
    assert ended(services.stop_run(run=run, actor=simple.owner)).state == "stopped"


def test_what_somebody_does_in_airflow_is_told(simple: Workflow, client: AirflowClient) -> None:
    run = ended(trigger(simple))
    told = len(story(run))

    insist(lambda: client.runs.clear(run.dag_id, run.dag_run_id, dry_run=False))
    run = until(run, lambda run: run.attempt == 2 and run.is_terminal)
    assert story(run)[told:] == [
        "workflow.external_change cleared",
        "workflow.started",
        "task.started start 2",
        "task.completed start 2",
        "task.started processing 2",
        "task.completed processing 2",
        "task.started completion 2",
        "task.completed completion 2",
        "workflow.completed",
    ]

    told = len(story(run))
    insist(lambda: client.runs.set_state(run.dag_id, run.dag_run_id, "failed"))
    run = until(run, lambda run: run.state == "failed")
    assert story(run)[told:] == ["workflow.external_change marked", "workflow.failed"]


def test_a_run_deleted_in_airflow_is_told(simple: Workflow, client: AirflowClient) -> None:
    run = started(trigger(simple, processing_time=60), "processing")
    # Airflow deletes only what is over; so between two looks it is marked and deleted.
    insist(lambda: client.runs.set_state(run.dag_id, run.dag_run_id, "failed"))
    insist(lambda: client.runs.delete(run.dag_id, run.dag_run_id))

    AirflowState.objects.update(swept_at=None)
    run = ended(run)

    assert (run.state, run.state_reason) == ("failed", "deleted in Airflow")
    assert story(run)[-2:] == ["workflow.external_change deleted", "workflow.failed"]


def test_a_run_that_somebody_starts_in_airflow_becomes_ours(simple: Workflow, client: AirflowClient) -> None:
    run_id = f"by_hand__{time.time_ns()}"
    work()

    insist(lambda: client.runs.trigger(DAG, dag_run_id=run_id, conf={"processing_time": 2}))
    deadline = time.monotonic() + 60
    while not Run.objects.filter(dag_run_id=run_id).exists():
        assert time.monotonic() < deadline
        work()
    run = ended(Run.objects.get(dag_run_id=run_id))

    assert (run.state, run.trigger_type, run.user, run.parameters) == (
        "success",
        "external",
        None,
        {"processing_time": 2},
    )
    assert story(run) == HAPPY


def test_the_cost_of_a_look_does_not_grow_and_the_log_has_no_gap(simple: Workflow) -> None:
    runs = [trigger(simple) for _ in range(4)]
    for run in runs:
        assert ended(run).state == "success"

    assert [story(run) for run in runs] == [HAPPY] * 4
    positions = list(Event.objects.order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, len(positions) + 1))
