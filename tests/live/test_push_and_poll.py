"""Push and poll together record each thing once."""

from __future__ import annotations

import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from tests.live.parts import Web
from tests.live.pushes import (
    events_of,
    poll_airflow,
    polled_run,
    polled_task,
    post,
    push,
    pushed_run,
    pushed_task,
    shows,
    signed,
)
from workflows.airflow.tests.scripted import Hold, Reply, ScriptedAirflow, paged
from workflows.models import Event, Run, TaskInstance
from workflows.states import RunState


def test_a_push_that_is_replayed_changes_nothing(web: Web, airflow: ScriptedAirflow, run: Run) -> None:
    shows(airflow, [polled_run(run, "success", end=4)], [polled_task(run, "extract", "success", start=2, end=3)])
    records = [
        pushed_run(run, "running"),
        pushed_task(run, "extract", "running", start=2),
        pushed_task(run, "extract", "success", start=2, end=3),
        pushed_run(run, "success", end=4),
    ]
    body = json.dumps({"records": records}).encode()
    headers = signed(body)
    assert post(web, body, headers).status_code == 202
    before = [list(model.objects.order_by("pk").values()) for model in (Event, TaskInstance)]

    assert post(web, body, headers).status_code == 202
    assert post(web, body, headers).status_code == 202

    assert [list(model.objects.order_by("pk").values()) for model in (Event, TaskInstance)] == before
    assert events_of(run) == [
        ("workflow.started", ""),
        ("task.started", "extract"),
        ("task.completed", "extract"),
        ("workflow.completed", ""),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_pushes_in_any_order_and_a_poll_record_all_events_once(
    webs: list[Web], airflow: ScriptedAirflow, run: Run, seed: int
) -> None:
    records = [
        pushed_run(run, "running"),
        pushed_task(run, "extract", "running", start=2),
        pushed_task(run, "extract", "success", start=2, end=3),
        pushed_task(run, "load", "running", start=4),
        pushed_task(run, "load", "failed", start=4, end=5),
        pushed_run(run, "failed", end=6),
    ]
    tasks = [polled_task(run, "extract", "success", start=2, end=3), polled_task(run, "load", "failed", start=4, end=5)]
    shows(airflow, [polled_run(run, "failed", end=6)], tasks)
    random.Random(seed).shuffle(records)  # noqa: S311

    for record, web in zip(records, itertools.cycle(webs), strict=False):
        push(web, record)
    poll_airflow()

    story = events_of(run)
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
    push(web, pushed_run(run, "running"), pushed_task(run, "load", "running", start=2, max_tries=1))
    push(web, pushed_task(run, "load", "running", start=5, try_number=2, max_tries=1))
    before = events_of(run)

    push(web, pushed_task(run, "load", "up_for_retry", start=2, end=3, max_tries=1))

    assert events_of(run) == before
    assert before == [
        ("workflow.started", ""),
        *[(f"task.{what}", "load") for what in ("started", "retrying", "started")],
    ]


def test_a_push_during_a_poll_is_neither_repeated_nor_undone_by_the_poll(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "running", start=2))
    shows(airflow, [polled_run(run, "running")], [polled_task(run, "extract", "running", start=2)])
    hold = Hold()
    airflow.next_api_calls.append(hold)
    with ThreadPoolExecutor(1) as other:
        looking = other.submit(_look_from_elsewhere)
        assert hold.arrived.wait(10)
        path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
        ended = [polled_task(run, "extract", "success", start=2, end=3)]
        airflow.answers["GET", path] = paged("task_instances", ended)
        push(web, pushed_task(run, "extract", "success", start=2, end=3), pushed_run(run, "success", end=4))
        before = events_of(run)
        hold.released.set()
        looking.result(20)

    run.refresh_from_db()
    assert events_of(run) == before
    assert before[-2:] == [("task.completed", "extract"), ("workflow.completed", "")]
    assert run.state == RunState.SUCCESS


def _look_from_elsewhere() -> None:
    try:
        poll_airflow()
    finally:
        connection.close()


def test_a_poll_that_still_shows_the_state_before_a_push_changes_nothing(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, pushed_run(run, "running"), pushed_task(run, "extract", "success", start=2, end=3))
    shows(airflow, [polled_run(run, "running")], [polled_task(run, "extract", "running", start=2)])
    poll_airflow()
    poll_airflow()

    assert events_of(run) == [("workflow.started", ""), ("task.started", "extract"), ("task.completed", "extract")]
    assert TaskInstance.objects.get(run=run).state == "success"

    shows(airflow, [polled_run(run, "success", end=4)], [polled_task(run, "extract", "success", start=2, end=3)])
    push(web, pushed_run(run, "success", end=4))
    shows(airflow, [polled_run(run, "running")], [polled_task(run, "extract", "running", start=2)])
    poll_airflow()

    run.refresh_from_db()
    assert (run.state, run.attempt) == (RunState.SUCCESS, 1)
    assert events_of(run)[3:] == [("workflow.completed", "")]


def test_an_end_that_is_pushed_while_airflow_does_not_answer_is_recorded_by_the_next_poll(
    web: Web, airflow: ScriptedAirflow, run: Run
) -> None:
    push(web, pushed_run(run, "running"))
    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances"
    shows(airflow, [polled_run(run, "success", end=4)], [polled_task(run, "extract", "success", start=2, end=3)])
    answer = airflow.answers.pop(("GET", path))
    airflow.answers["GET", path] = lambda _request: Reply(503, {"detail": "not now"})
    push(web, pushed_run(run, "success", end=4))
    assert events_of(run) == [("workflow.started", "")]

    airflow.answers["GET", path] = answer
    poll_airflow()

    assert events_of(run)[1:] == [
        ("task.started", "extract"),
        ("task.completed", "extract"),
        ("workflow.completed", ""),
    ]
