"""Airflow's pushes: who may, what they change, and that push and look together tell each thing once."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from pytest_django import Settings

from accounts.models import User
from tests.live.conftest import SECRET, new_run, new_workflow
from tests.live.parts import Web, until
from workflows import reconcile, upstream
from workflows.airflow.tests.scripted import Hold, Reply, ScriptedAirflow, paged, run_json, task_json
from workflows.models import AirflowState, Dag, Event, Run, TaskInstance, TriggerType, Workflow
from workflows.states import RunState
from workflows.tests.stage import dag_task

NOON = datetime.now(UTC).replace(microsecond=0)


def at(second: float) -> str:
    return (NOON + timedelta(seconds=second)).isoformat()


def told_run(run: Run, state: str, *, end: float | None = None, **fields: Any) -> dict[str, Any]:
    """What the plugin says of a run."""
    known: dict[str, Any] = {
        "kind": "run",
        "at": at(0),
        "dag_id": run.dag_id,
        "dag_run_id": run.dag_run_id,
        "run_type": "manual",
    }
    return known | {"state": state, "start_date": at(1), "end_date": None if end is None else at(end)} | fields


def told_task(
    run: Run, task_id: str, state: str, *, start: float, end: float | None = None, **fields: Any
) -> dict[str, Any]:
    """What the plugin says of a task."""
    known: dict[str, Any] = {"kind": "task", "at": at(end or start), "dag_id": run.dag_id, "dag_run_id": run.dag_run_id}
    known |= {"task_id": task_id, "map_index": -1, "try_number": 1, "max_tries": 0, "state": state}
    return known | {"start_date": at(start), "end_date": None if end is None else at(end)} | fields


def signed(body: bytes, *, secret: str = SECRET, sent_at: float | None = None) -> dict[str, str]:
    moment = str(int(time.time() if sent_at is None else sent_at))
    signature = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-SVOps-Timestamp": moment, "X-SVOps-Signature": signature, "Content-Type": "application/json"}


def post(web: Web, body: bytes, headers: dict[str, str]) -> requests.Response:
    return requests.post(f"{web.url}/api/v1/ingest", data=body, headers=headers, timeout=20)


def push(web: Web, *records: dict[str, Any]) -> None:
    body = json.dumps({"records": records, "dropped": 0}).encode()
    answer = post(web, body, signed(body))
    assert (answer.status_code, answer.json()) == (202, {"taken": len(records)})


def told(run: Run) -> list[tuple[str, str]]:
    """The story of a run so far."""
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", "task_id"))


def everything() -> list[Any]:
    models = (Event, Run, TaskInstance)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.fixture
def airflow(scripted_airflow: ScriptedAirflow, settings: Settings) -> Iterator[ScriptedAirflow]:
    """The Airflow of the web processes, for looks of this process too. Nothing has changed in it."""
    settings.AIRFLOW_URL, settings.AIRFLOW_USERNAME, settings.AIRFLOW_PASSWORD = scripted_airflow.url, "admin", "admin"
    upstream.airflow.cache_clear()
    shows(scripted_airflow, [], [])
    AirflowState.current()
    # What a sweep finds is another matter.
    AirflowState.objects.update(swept_at=timezone.now() + timedelta(days=1))
    yield scripted_airflow
    scripted_airflow.answers.clear()
    upstream.airflow.cache_clear()


def shows(airflow: ScriptedAirflow, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
    """What a look at Airflow sees, and who asks for the tasks of one of these runs."""
    airflow.answers["GET", "/dags/~/dagRuns"] = paged("dag_runs", runs)
    airflow.answers["GET", "/dags/~/dagRuns/~/taskInstances"] = paged("task_instances", tasks)
    for run in runs:
        of_run = [task for task in tasks if task["dag_run_id"] == run["dag_run_id"]]
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        airflow.answers["GET", path] = paged("task_instances", of_run)


def seen_run(run: Run, state: str, *, end: float | None = None) -> dict[str, Any]:
    end_date = None if end is None else at(end)
    return run_json(run.dag_id, run.dag_run_id, state=state, start_date=at(1), end_date=end_date)


def seen_task(run: Run, task_id: str, state: str, *, start: float, end: float | None = None) -> dict[str, Any]:
    dates = {"start_date": at(start), "end_date": None if end is None else at(end)}
    return task_json(run.dag_id, run.dag_run_id, task_id, state=state, try_number=1, **dates)


def look() -> None:
    assert reconcile.tick(now=timezone.now())


# --- Who may ------------------------------------------------------------------------------------------------


def test_a_signed_push_moves_the_run_and_tells_its_story(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    push(web, told_run(run, "running"), told_task(run, "extract", "running", start=2))
    push(web, told_task(run, "extract", "success", start=2, end=3))

    assert told(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    run.refresh_from_db()
    assert (run.state, run.started_at) == (RunState.RUNNING, NOON + timedelta(seconds=1))


BODY = b'{"records": []}'
UNSIGNED: list[Callable[[bytes], dict[str, str]]] = [
    lambda _: {},
    lambda body: signed(body, secret="another secret"),
    lambda body: signed(body, sent_at=time.time() - 301),
    lambda body: signed(body, sent_at=time.time() + 303),
    lambda body: signed(body + b" "),
    lambda body: signed(body) | {"X-SVOps-Timestamp": str(int(time.time()) - 2)},
    lambda body: signed(body) | {"X-SVOps-Timestamp": "now"},
    lambda body: signed(body) | {"X-SVOps-Signature": "é" * 64},
]


@pytest.mark.parametrize("headers", UNSIGNED)
def test_a_push_that_is_not_signed_as_it_should_be_is_refused_and_changes_nothing(
    web: Web, run: Run, headers: Callable[[bytes], dict[str, str]]
) -> None:
    before = everything()
    body = json.dumps({"records": [told_run(run, "running")]}).encode()

    answer = post(web, body, {name: value.encode() for name, value in headers(body).items()})  # type: ignore[misc]

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")
    assert everything() == before


def test_without_a_secret_here_every_push_is_refused(settings: Settings, run: Run) -> None:
    settings.INGEST_SECRET = ""
    headers = signed(BODY, secret="")

    answer = Client().post("/api/v1/ingest", BODY, content_type="application/json", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_signature")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"records": {}}', b"\xff", b'{"records": 7}', b"{"])
def test_a_body_that_is_no_batch_is_refused(web: Web, body: bytes) -> None:
    answer = post(web, body, signed(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["records"]


MALFORMED: list[Any] = [
    7,
    None,
    {},
    {"kind": "cat"},
    {"state": None},
    {"state": "x" * 40},
    {"start_date": "yesterday"},
    {"start_date": "2026-11-25T08:00:00"},
    {"start_date": 5},
    {"dag_id": "a\x00b"},
    {"dag_id": 7},
    {"try_number": "many"},
    {"try_number": -1},
    {"try_number": 2**40},
    {"map_index": None},
    {"task_id": "x" * 300},
]


@pytest.mark.parametrize("wrong", MALFORMED, ids=lambda wrong: json.dumps(wrong)[:40])
def test_a_malformed_record_refuses_its_batch_with_its_place_and_changes_nothing(
    web: Web, airflow: ScriptedAirflow, run: Run, wrong: Any
) -> None:
    before = everything()
    whole = told_task(run, "extract", "running", start=2)
    record = whole | wrong if isinstance(wrong, dict) and wrong else wrong
    body = json.dumps({"records": [told_run(run, "running"), record]}).encode()

    answer = post(web, body, signed(body))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["records.1"]
    assert everything() == before


def test_more_records_than_a_batch_may_have_are_refused(web: Web, run: Run) -> None:
    before = everything()
    body = json.dumps({"records": [told_run(run, "running")] * 1001}).encode()

    answer = post(web, body, signed(body))

    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["records"])
    assert everything() == before


def test_what_the_plugin_has_dropped_is_logged(web: Web) -> None:
    body = json.dumps({"records": [], "dropped": 31337}).encode()

    assert post(web, body, signed(body)).status_code == 202

    until(lambda: "the listener has dropped records dropped=31337" in web.log, within=5, or_say=lambda: web.log)


# --- Push and look ------------------------------------------------------------------------------------------


def test_a_push_that_is_replayed_changes_nothing(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    shows(airflow, [seen_run(run, "success", end=4)], [seen_task(run, "extract", "success", start=2, end=3)])
    records = [
        told_run(run, "running"),
        told_task(run, "extract", "running", start=2),
        told_task(run, "extract", "success", start=2, end=3),
        told_run(run, "success", end=4),
    ]
    body = json.dumps({"records": records}).encode()
    headers = signed(body)
    assert post(web, body, headers).status_code == 202
    before = [list(model.objects.order_by("pk").values()) for model in (Event, TaskInstance)]

    assert post(web, body, headers).status_code == 202
    assert post(web, body, headers).status_code == 202

    assert [list(model.objects.order_by("pk").values()) for model in (Event, TaskInstance)] == before
    assert told(run) == [
        ("workflow.started", ""),
        ("task.started", "extract"),
        ("task.completed", "extract"),
        ("workflow.completed", ""),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_pushes_in_any_order_and_a_look_tell_the_whole_story_once(
    webs: list[Web], airflow: ScriptedAirflow, run: Run, seed: int
) -> None:
    records = [
        told_run(run, "running"),
        told_task(run, "extract", "running", start=2),
        told_task(run, "extract", "success", start=2, end=3),
        told_task(run, "load", "running", start=4),
        told_task(run, "load", "failed", start=4, end=5),
        told_run(run, "failed", end=6),
    ]
    tasks = [seen_task(run, "extract", "success", start=2, end=3), seen_task(run, "load", "failed", start=4, end=5)]
    shows(airflow, [seen_run(run, "failed", end=6)], tasks)
    random.Random(seed).shuffle(records)  # noqa: S311

    for record, web in zip(records, itertools.cycle(webs), strict=False):
        push(web, record)
    look()

    story = told(run)
    assert sorted(story) == [
        ("task.completed", "extract"),
        ("task.failed", "load"),
        ("task.started", "extract"),
        ("task.started", "load"),
        ("workflow.failed", ""),
        ("workflow.started", ""),
    ]
    assert story.index(("task.started", "extract")) < story.index(("task.completed", "extract"))
    assert story.index(("task.started", "load")) < story.index(("task.failed", "load"))
    assert (story[0], story[-1]) == (("workflow.started", ""), ("workflow.failed", ""))


def test_a_late_push_of_an_earlier_try_changes_nothing(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    push(web, told_run(run, "running"), told_task(run, "load", "running", start=2, max_tries=1))
    push(web, told_task(run, "load", "running", start=5, try_number=2, max_tries=1))
    before = told(run)

    push(web, told_task(run, "load", "up_for_retry", start=2, end=3, max_tries=1))

    assert told(run) == before
    assert before == [
        ("workflow.started", ""),
        *[(f"task.{what}", "load") for what in ("started", "retrying", "started")],
    ]


def test_a_push_during_a_look_is_neither_doubled_nor_undone_by_the_look(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, told_run(run, "running"), told_task(run, "extract", "running", start=2))
    shows(airflow, [seen_run(run, "running")], [seen_task(run, "extract", "running", start=2)])
    hold = Hold()
    airflow.next_api_calls.append(hold)
    with ThreadPoolExecutor(1) as other:
        looking = other.submit(_look_from_elsewhere)
        assert hold.arrived.wait(10)
        path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
        ended = [seen_task(run, "extract", "success", start=2, end=3)]
        airflow.answers["GET", path] = paged("task_instances", ended)
        push(web, told_task(run, "extract", "success", start=2, end=3), told_run(run, "success", end=4))
        before = told(run)
        hold.released.set()
        looking.result(20)

    run.refresh_from_db()
    assert told(run) == before
    assert before[-2:] == [("task.completed", "extract"), ("workflow.completed", "")]
    assert run.state == RunState.SUCCESS


def _look_from_elsewhere() -> None:
    try:
        look()
    finally:
        connection.close()


def test_a_look_right_after_a_push_that_still_shows_the_old_state_changes_nothing(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, told_run(run, "running"), told_task(run, "extract", "success", start=2, end=3))
    shows(airflow, [seen_run(run, "running")], [seen_task(run, "extract", "running", start=2)])
    look()
    look()

    assert told(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    assert TaskInstance.objects.get(run=run).state == "success"

    shows(airflow, [seen_run(run, "success", end=4)], [seen_task(run, "extract", "success", start=2, end=3)])
    push(web, told_run(run, "success", end=4))
    shows(airflow, [seen_run(run, "running")], [seen_task(run, "extract", "running", start=2)])
    look()

    run.refresh_from_db()
    assert (run.state, run.attempt) == (RunState.SUCCESS, 1)
    assert told(run)[3:] == [("workflow.completed", "")]


def test_while_airflow_does_not_answer_an_end_is_taken_and_told_by_the_next_look(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, told_run(run, "running"))
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
    shows(airflow, [seen_run(run, "success", end=4)], [seen_task(run, "extract", "success", start=2, end=3)])
    answer = airflow.answers.pop(("GET", path))
    airflow.answers["GET", path] = lambda _request: Reply(503, {"detail": "not now"})
    push(web, told_run(run, "success", end=4))
    assert told(run) == [("workflow.started", "")]

    airflow.answers["GET", path] = answer
    look()

    assert told(run)[1:] == [("task.started", "extract"), ("task.completed", "extract"), ("workflow.completed", "")]


# --- Ends -----------------------------------------------------------------------------------------------------


def of_dag(run: Run, *task_ids: str) -> None:
    """Let the DAG of this run have these tasks."""
    Dag.objects.filter(dag_id=run.dag_id).update(tasks=[dag_task(task_id) for task_id in task_ids])


def reads_of(airflow: ScriptedAirflow, run: Run) -> int:
    """How often the tasks of this run were read from Airflow."""
    return airflow.calls.count(("GET", f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"))


def test_an_end_is_told_without_asking_airflow_where_each_task_was_pushed_to_its_end(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract", "load")
    push(web, told_run(run, "running"), told_task(run, "extract", "success", start=2, end=3))
    push(web, told_task(run, "load", "failed", start=4, end=5))
    push(web, told_run(run, "failed", end=6))

    assert reads_of(airflow, run) == 0
    run.refresh_from_db()
    assert (run.state, run.ended_at) == (RunState.FAILED, parse_datetime(at(6)))
    assert told(run)[-2:] == [("task.failed", "load"), ("workflow.failed", "")]
    assert run.events.get(type="workflow.failed").data["failed_tasks"] == ["load"]

    before = told(run)
    shows(
        airflow,
        [seen_run(run, "failed", end=6)],
        [seen_task(run, "extract", "success", start=2, end=3), seen_task(run, "load", "failed", start=4, end=5)],
    )
    look()
    assert told(run) == before


def test_an_end_waits_for_the_tasks_of_its_dag_that_no_push_has_told(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract", "load")
    push(web, told_run(run, "running"), told_task(run, "extract", "success", start=2, end=3))
    tasks = [seen_task(run, "extract", "success", start=2, end=3), seen_task(run, "load", "skipped", start=3, end=3)]
    shows(airflow, [seen_run(run, "success", end=4)], tasks)
    push(web, told_run(run, "success", end=4))

    assert reads_of(airflow, run) == 1
    assert told(run)[-2:] == [("task.skipped", "load"), ("workflow.completed", "")]


def test_what_is_pushed_with_an_end_that_waits_is_told_though_airflow_does_not_answer(
    web: Web, airflow: ScriptedAirflow, run: Run, workflow: Workflow
) -> None:
    of_dag(run, "extract", "load")
    other = new_run(workflow)
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
    airflow.answers["GET", path] = lambda _request: Reply(503, {"detail": "not now"})
    push(
        web,
        told_run(run, "running"),
        told_task(run, "extract", "success", start=2, end=3),
        told_run(run, "success", end=4),
        told_run(other, "running"),
    )

    assert reads_of(airflow, run) == 1
    assert told(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    assert told(other) == [("workflow.started", "")]


def test_the_end_of_a_retry_is_not_judged_by_the_tasks_of_the_attempt_before(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract")
    push(web, told_run(run, "running"), told_task(run, "extract", "failed", start=2, end=3))
    Run.objects.filter(pk=run.pk).update(attempt=2)
    again = seen_task(run, "extract", "success", start=5, end=6) | {"try_number": 2}
    shows(airflow, [seen_run(run, "success", end=7)], [again])
    push(web, told_run(run, "success", end=7))

    assert reads_of(airflow, run) == 1
    assert told(run)[-2:] == [("task.completed", "extract"), ("workflow.completed", "")]


def test_a_run_that_is_stopped_is_not_over_because_its_tasks_were_pushed_to_their_ends(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    of_dag(run, "extract")
    push(web, told_run(run, "running"), told_task(run, "extract", "failed", start=2, end=3))
    Run.objects.filter(pk=run.pk).update(state=RunState.STOPPING, stop_requested_at=at(3))
    shows(airflow, [seen_run(run, "failed", end=4)], [seen_task(run, "extract", "failed", start=2, end=3)])
    push(web, told_run(run, "failed", end=4))

    assert reads_of(airflow, run) == 1
    run.refresh_from_db()
    assert (run.state, run.ended_at) == (RunState.STOPPING, parse_datetime(at(4)))
    assert told(run)[-1] == ("task.failed", "extract")


# --- Adoption -----------------------------------------------------------------------------------------------


def outside(dag_id: str, name: str) -> Run:
    """A run that is known to Airflow alone."""
    return Run(dag_id=dag_id, dag_run_id=name)


def test_a_run_of_our_dag_started_in_airflow_is_adopted_as_external(
    web: Web, airflow: ScriptedAirflow, workflow: Workflow
) -> None:
    theirs = outside(workflow.dag.dag_id, "manual__1")

    push(web, told_run(theirs, "running"))

    run = Run.objects.get(dag_run_id="manual__1", workflow=workflow)
    assert (run.trigger_type, run.user, run.state) == (TriggerType.EXTERNAL, None, RunState.RUNNING)
    assert told(run) == [("workflow.triggered", ""), ("workflow.started", "")]
    assert Event.objects.filter(run=run).first().data["trigger_type"] == "external"  # type: ignore[union-attr]


def test_a_run_of_a_foreign_dag_and_one_that_is_over_are_not_adopted(
    web: Web, airflow: ScriptedAirflow, workflow: Workflow
) -> None:
    before = everything()

    push(web, told_run(outside("somebody_elses", "manual__2"), "running"))
    push(web, told_run(outside(workflow.dag.dag_id, "manual__3"), "success", end=4))

    assert everything() == before


def test_a_run_that_several_workers_see_at_once_is_adopted_once(
    webs: list[Web], airflow: ScriptedAirflow, ada: User
) -> None:
    workflow = new_workflow(ada)
    with ThreadPoolExecutor(8) as workers:
        for number in range(5):
            theirs = outside(workflow.dag.dag_id, f"manual__at_once_{number}")
            jobs = [workers.submit(push, web, told_run(theirs, "running")) for web in webs * 3]
            for job in jobs:
                job.result(20)

    runs = Run.objects.filter(workflow=workflow)
    assert sorted(runs.values_list("dag_run_id", flat=True)) == [f"manual__at_once_{number}" for number in range(5)]
    assert [told(run) for run in runs] == [[("workflow.triggered", ""), ("workflow.started", "")]] * 5


def test_a_look_adopts_what_no_push_has_told(airflow: ScriptedAirflow, workflow: Workflow) -> None:
    theirs = outside(workflow.dag.dag_id, "manual__seen")
    shows(airflow, [seen_run(theirs, "running")], [seen_task(theirs, "extract", "running", start=2)])

    look()
    look()

    run = Run.objects.get(dag_run_id="manual__seen")
    assert told(run) == [("workflow.triggered", ""), ("workflow.started", ""), ("task.started", "extract")]


def test_a_run_of_ours_under_another_dag_id_is_not_touched(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    other = new_run(new_workflow(run.workflow.owner))
    before = everything()

    push(web, told_run(outside(other.dag_id, run.dag_run_id), "success", end=4))

    assert everything() == before
