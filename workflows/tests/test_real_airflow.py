"""The core on a real Airflow, with the example DAGs: what the staged one cannot prove."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.test import Client
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker
from pytest_django import Settings

from accounts.models import Role, User
from conftest import GIVEN, HOME, AirflowServer
from rest.errors import InvalidInputError
from runner.versions import is_airflow_2
from workflows import explain, services, task_logs
from workflows.airflow import AirflowClient, errors
from workflows.eventlog import publication
from workflows.lifecycle import results
from workflows.models import Airflow, Dag, DataInterval, Event, Run, TriggerType, Workflow
from workflows.naming import DEFAULT
from workflows.task_logs import LogPage, LogQuery
from workflows.tests.real import connect, ended, until, work
from workflows.tests.stage import conf_of_ours, story
from workflows.watch import dags

pytestmark = [pytest.mark.airflow, pytest.mark.django_db(transaction=True)]

DAG = "simple_workflow_example"
IS_SECOND = is_airflow_2()
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
    server = airflow_server
    with connect(settings, url=server.url, username=server.username, password=server.password) as client:
        yield client


@pytest.fixture
def simple(client: AirflowClient) -> Workflow:
    """A workflow over the simple example, synced from Airflow."""
    owner = User.objects.create_user("root", "root@example.com", role=Role.ADMIN)
    insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now()))
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


def started(run: Run, task_id: str) -> Run:
    return until(run, lambda run: run.tasks.filter(task_id=task_id, state="running").exists())


def trigger(
    workflow: Workflow, logical_date: datetime | None = None, data_interval: DataInterval | None = None, **given: Any
) -> Run:
    request = services.RunRequest(
        parameters=given, caller_task_ref=7, logical_date=logical_date, data_interval=data_interval
    )
    return services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)


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
    assert insist(lambda: dags.sync_dags(DEFAULT, now=timezone.now())).changed == []


def test_a_run_is_recorded_from_its_trigger_to_its_end_in_order(simple: Workflow, client: AirflowClient) -> None:
    run = ended(trigger(simple, message="hello"))

    assert story(run) == HAPPY
    assert (run.state, run.state_reason) == ("success", "")
    positions = [event.position for event in run.events.order_by("seq")]
    assert positions == sorted(position for position in positions if position)
    fits = Draft202012Validator(Client().get("/api/v1/events/schema").json(), format_checker=FormatChecker())
    for event in run.events.all():
        fits.validate(publication.envelope(event))
    theirs = client.runs.get(run.dag_id, run.dag_run_id)
    assert (run.started_at, run.ended_at) == (theirs.start_date, theirs.end_date)
    ours = conf_of_ours(run, 7, None)
    assert theirs.conf == {"processing_time": 0, "message": "hello", "task_id": 7, "svops": ours}
    assert {task.task_id: (task.state, task.try_number) for task in run.tasks.all()} == dict.fromkeys(
        ("start", "processing", "completion"), ("success", 1)
    )


@pytest.mark.parametrize("task_id", ["completion", "processing", "start"])
def test_the_return_value_of_a_task_is_the_result_of_the_run(simple: Workflow, task_id: str) -> None:
    Workflow.objects.update(result_task=task_id)
    run = ended(trigger(simple, message="hello"))

    work()

    result = results.shown(Run.objects.select_related("result", "workflow").get(pk=run.pk))
    if task_id == "start":
        assert (result["state"], result["reason"]) == ("missing", "The task start has returned nothing.")
        assert story(run) == [*HAPPY, "workflow.result"]
        return
    seconds = result["value"]["seconds"] if task_id == "completion" else result["value"]
    assert seconds >= 0
    expected = {"message": "hello", "seconds": seconds} if task_id == "completion" else seconds
    assert (result["state"], result["value"]) == ("ready", expected)
    assert run.events.get(type="workflow.completed").data["result"] == result


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

    recorded = len(story(run))
    run = ended(services.retry_run(run=run, actor=simple.owner))

    assert story(run)[recorded:] == [
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
    recorded = len(story(run))

    run = ended(services.retry_run(run=run, actor=simple.owner, mode="from_task", task_id="completion"))
    assert story(run)[recorded:] == [
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
    Airflow.objects.update(swept_at=None)
    work()
    run.refresh_from_db()
    assert run.state == "stopped"

    would_run = insist(lambda: services.preview_retry(run=run))
    assert [task_id for task_id, _ in would_run] == ["completion", "processing"]
    run = services.retry_run(run=run, actor=simple.owner)
    run = started(run, "processing")
    assert run.tasks.get(task_id="processing").try_number == 2
    assert ended(services.stop_run(run=run, actor=simple.owner)).state == "stopped"


def test_changes_made_in_airflow_are_recorded(simple: Workflow, client: AirflowClient) -> None:
    run = ended(trigger(simple))
    recorded = len(story(run))

    insist(lambda: client.runs.clear(run.dag_id, run.dag_run_id, dry_run=False))
    run = until(run, lambda run: run.attempt == 2 and run.is_terminal)
    assert story(run)[recorded:] == [
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

    recorded = len(story(run))
    insist(lambda: client.runs.set_state(run.dag_id, run.dag_run_id, "failed"))
    run = until(run, lambda run: run.state == "failed")
    assert story(run)[recorded:] == ["workflow.external_change marked", "workflow.failed"]


def test_a_run_deleted_in_airflow_is_recorded(simple: Workflow, client: AirflowClient) -> None:
    run = started(trigger(simple, processing_time=60), "processing")
    # Airflow deletes only ended runs, so it is marked and deleted between two polls.
    insist(lambda: client.runs.set_state(run.dag_id, run.dag_run_id, "failed"))
    insist(lambda: client.runs.delete(run.dag_id, run.dag_run_id))

    Airflow.objects.update(swept_at=None)
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


def test_the_cost_of_a_poll_does_not_grow_and_the_log_has_no_gap(simple: Workflow) -> None:
    runs = [trigger(simple) for _ in range(4)]
    for run in runs:
        assert ended(run).state == "success"

    assert [story(run) for run in runs] == [HAPPY] * 4
    positions = list(Event.objects.order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, len(positions) + 1))


def a_day_of_its_own() -> datetime:
    """Return a date that no other run has: all tests share one Airflow, which keeps the runs."""
    return datetime(2024, 6, 1, tzinfo=UTC) + timedelta(seconds=random.SystemRandom().randrange(10**7))


@pytest.mark.parametrize("with_interval", [True, False])
def test_a_run_has_the_dates_of_its_trigger_in_airflow_too(
    simple: Workflow, client: AirflowClient, with_interval: bool
) -> None:
    date = a_day_of_its_own()
    interval = DataInterval(date - timedelta(days=1), date + timedelta(hours=3)) if with_interval else None

    run = ended(trigger(simple, logical_date=date, data_interval=interval))

    theirs = client.runs.get(run.dag_id, run.dag_run_id)
    assert (run.state, run.logical_date, run.data_interval) == ("success", date, interval)
    assert theirs.logical_date == date
    # Airflow derives an interval that was not given: for a DAG without a schedule, the moment itself.
    assert theirs.data_interval == (interval or DataInterval(date, date))
    assert story(run) == HAPPY


def test_a_second_run_with_the_same_logical_date_fails_with_the_reason(simple: Workflow) -> None:
    date = a_day_of_its_own()
    first = ended(trigger(simple, logical_date=date))

    second = ended(trigger(simple, logical_date=date))

    assert (first.state, second.state) == ("success", "failed")
    assert f"another run of the DAG has the logical date {date.isoformat()}" in second.state_reason


def test_a_run_without_a_date_has_none_here(simple: Workflow, client: AirflowClient) -> None:
    run = ended(trigger(simple))

    theirs = client.runs.get(run.dag_id, run.dag_run_id)
    assert (run.logical_date, run.data_interval) == (None, None)
    # 2.11 gives each run the moment of its trigger.
    assert (theirs.logical_date is None) == (not IS_SECOND)


def test_a_run_that_was_marked_in_airflow_says_by_whom(simple: Workflow, client: AirflowClient) -> None:
    run = started(trigger(simple, processing_time=60), "processing")
    insist(lambda: client.runs.set_state(run.dag_id, run.dag_run_id, "failed"))
    run = ended(run)

    # The audit log is read as long as somebody waits for an answer. A busy Airflow may take longer.
    deadline = time.monotonic() + 60
    while True:
        reason = explain.explain(run, now=timezone.now(), may_retry=True, may_see_logs=True)[0]
        if reason.code == "marked" or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert (reason.code, reason.action) == ("marked", "Ask admin why, or retry the run.")


def log_file_of(run: Run, task_id: str) -> Path:
    """Return the file in the folder of the Airflow of the tests that has the log of the first try."""
    (path,) = HOME.rglob(f"run_id={run.dag_run_id}/task_id={task_id}/attempt=1.log")
    return path


def log_line(text: str) -> str:
    """Return a line of a log file in the form of the Airflow of the tests."""
    if IS_SECOND:
        return f"[2100-01-01T00:00:00.000+0000] {{etl.py:1}} ERROR - {text}\n"
    entry = {"timestamp": "2100-01-01T00:00:00Z", "level": "error", "logger": "etl", "event": text}
    return json.dumps(entry, ensure_ascii=False) + "\n"


def read_to_its_end(run: Run, query: LogQuery, *, user_id: int) -> LogPage:
    """Read until the log has ended. Before 3.3, Airflow logs no regular end: it counts as ended half a minute later."""
    deadline = time.monotonic() + 120
    while True:
        page = task_logs.read(run, query, user_id=user_id, now=timezone.now())
        if isinstance(page, LogPage) and page.ended:
            return page
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.mark.skipif(bool(GIVEN.get("AIRFLOW_URL")), reason="the logs of a given Airflow are not on this machine")
def test_a_large_log_is_read_in_pages_and_its_long_line_is_cut_as_text(simple: Workflow) -> None:
    run = ended(trigger(simple))
    path = log_file_of(run, "processing")
    # Later than the lines that Airflow wrote: lines are ordered by their time.
    texts = ["ä" * 1_000_000, *(f"line {n}" for n in range(20_000))]
    with path.open("a") as log:
        log.writelines(map(log_line, texts))
    user_id = simple.owner.pk

    query = LogQuery(task_id="processing", limit=5000)
    pages: list[LogPage] = []
    while not pages or pages[-1].has_more:
        page = task_logs.read(run, query, user_id=user_id, now=timezone.now())
        assert isinstance(page, LogPage)
        pages.append(page)
        query = replace(query, cursor=page.cursor)
    tail = task_logs.read(run, LogQuery(task_id="processing", tail=2), user_id=user_id, now=timezone.now())

    lines = [line for page in pages for line in page.lines]
    long, *others = lines[-len(texts) :]
    assert [line.text for line in others] == texts[1:]
    assert (long.level, long.is_cut) == ("error", True)
    assert long.timestamp == datetime(2100, 1, 1, tzinfo=UTC)
    assert re.fullmatch(r"ä{130000,131072}… \[cut: the line has 2,000,\d{3} bytes\]", long.text)
    assert read_to_its_end(run, query, user_id=user_id).lines == []
    assert isinstance(tail, LogPage)
    assert [line.text for line in tail.lines] == texts[-2:]
