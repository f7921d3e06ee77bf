"""A pause of a DAG in Airflow shows at the next poll, and is over before the run is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from workflows import gateway, services
from workflows.airflow.tests.scripted import Hold
from workflows.models import Airflow, AirflowCommand, CommandKind, Dag, Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, dag_run, new_run, story, task
from workflows.watch import dags, poll
from workflows.watch.apply import apply
from workflows.watch.observation import Observation
from workflows.watch.observe import observe
from workflows.watch.pauses import follow_pauses

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(airflow: StagedAirflow, nightly: Workflow) -> Run:
    """Running in Airflow, and known to be. No sweep is due."""
    Airflow.default()
    Airflow.objects.update(swept_at=timezone.now() + timedelta(hours=1))
    run = new_run(nightly, RunState.RUNNING, started_at=timezone.now())
    airflow.put(run, "running", start=1)
    return run


def pause(airflow: StagedAirflow, *, paused: bool) -> None:
    airflow.dags["etl"]["listed"]["is_paused"] = paused


def tick(now: datetime | None = None) -> None:
    assert poll.tick(DEFAULT, now=now or timezone.now())


def dag_events() -> int:
    return Event.objects.filter(type="dag.synced").count()


def test_a_dag_paused_and_unpaused_in_airflow_shows_at_the_next_poll_each_time(
    airflow: StagedAirflow, run: Run
) -> None:
    for paused, recorded in ((True, "workflow.paused"), (True, None), (False, "workflow.resumed"), (False, None)):
        before = story(run)
        pause(airflow, paused=paused)

        tick()

        run.refresh_from_db()
        assert (Dag.objects.get().is_paused, run.paused) == (paused, paused)
        assert story(run) == before + ([recorded] if recorded else [])
    assert dag_events() == 2


def test_a_run_whose_dag_was_unpaused_and_that_ended_since_was_resumed_before_its_end(
    airflow: StagedAirflow, run: Run
) -> None:
    pause(airflow, paused=True)
    tick()
    pause(airflow, paused=False)
    airflow.put(run, "success", start=1, end=5)

    tick()

    run.refresh_from_db()
    assert (run.state, run.paused) == ("success", False)
    assert story(run) == ["workflow.paused", "workflow.resumed", "workflow.completed"]


@pytest.mark.parametrize("finished", [None, timedelta(0), timedelta(seconds=3)], ids=["pending", "at once", "later"])
def test_a_pause_of_ours_that_airflow_may_not_show_yet_is_not_undone(
    airflow: StagedAirflow, run: Run, finished: timedelta | None
) -> None:
    polled_at = timezone.now()
    dag = Dag.objects.get()
    Dag.objects.update(is_paused=True)
    at = None if finished is None else polled_at + finished
    AirflowCommand.objects.create(
        kind=CommandKind.PAUSE, dag=dag, created_at=polled_at, due_at=polled_at, finished_at=at
    )

    tick(polled_at)

    assert (Dag.objects.get().is_paused, dag_events()) == (True, 0)


def test_a_pause_of_ours_from_before_the_poll_may_have_been_undone_in_airflow(airflow: StagedAirflow, run: Run) -> None:
    polled_at = timezone.now()
    before = polled_at - timedelta(seconds=1)
    Dag.objects.update(is_paused=True)
    AirflowCommand.objects.create(
        kind=CommandKind.PAUSE, dag=Dag.objects.get(), created_at=before, due_at=before, finished_at=before
    )

    tick(polled_at)

    assert (Dag.objects.get().is_paused, dag_events()) == (False, 1)


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("by_sync", [True, False], ids=["sync", "poll"])
def test_a_pause_that_was_read_before_the_last_change_is_outdated(
    airflow: StagedAirflow, run: Run, paused: bool, by_sync: bool
) -> None:
    """A sync reads every DAG, which takes a while. A poll or a push may learn of a change meanwhile."""
    dags.sync_dags(DEFAULT, now=timezone.now())
    if not paused:
        frozen(airflow, run)
    began = timezone.now()
    pause(airflow, paused=paused)
    tick()
    before = (story(run), dag_events())
    pause(airflow, paused=not paused)

    if by_sync:
        dags.sync_dags(DEFAULT, now=began)
    else:
        follow_pauses(gateway.client_of(DEFAULT), at=began)

    assert Dag.objects.get().is_paused is paused
    assert (story(run), dag_events()) == before
    dags.sync_dags(DEFAULT, now=timezone.now())
    assert Dag.objects.get().is_paused is not paused


@pytest.mark.django_db(transaction=True)
def test_a_push_and_a_poll_that_find_the_same_resumption_at_once_record_it_once(
    airflow: StagedAirflow, run: Run
) -> None:
    frozen(airflow, run)
    pause(airflow, paused=False)
    held = Hold()
    airflow.next_api_calls.append(held)

    def poll_it() -> None:
        try:
            tick()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll_it)
        assert held.arrived.wait(60)
        pushed(run, task(run, "extract", "running", start=3))
        held.released.set()
        polling.result(60)

    assert story(run) == ["workflow.paused", "workflow.resumed", "task.started extract 1"]
    assert (Dag.objects.get().is_paused, dag_events()) == (False, 2)


def pushed(run: Run, *tasks: Any, state: str | None = None, **times: float) -> None:
    runs = [dag_run(run, state, **times)] if state else []
    apply(gateway.client_of(DEFAULT), runs=runs, tasks=tasks, at=timezone.now(), pushed=True)


def frozen(airflow: StagedAirflow, run: Run) -> None:
    """The DAG is paused, and SVOps has noticed."""
    pause(airflow, paused=True)
    tick()


def test_a_run_that_is_pushed_to_its_end_was_resumed_before(airflow: StagedAirflow, run: Run) -> None:
    frozen(airflow, run)
    pause(airflow, paused=False)
    airflow.put(run, "success", start=1, end=5)

    pushed(run, state="success", start=1, end=5)
    tick()

    assert story(run) == ["workflow.paused", "workflow.resumed", "workflow.completed"]
    assert dag_events() == 2


def test_a_task_that_is_pushed_to_start_after_a_resumption_starts_after_it(airflow: StagedAirflow, run: Run) -> None:
    frozen(airflow, run)
    pause(airflow, paused=False)

    pushed(run, task(run, "extract", "running", start=3))
    tick()

    run.refresh_from_db()
    assert story(run) == ["workflow.paused", "workflow.resumed", "task.started extract 1"]
    assert (run.paused, run.is_pausing) == (False, False)


@pytest.mark.parametrize("by_push", [True, False], ids=["push", "poll"])
def test_a_run_that_is_marked_while_it_is_frozen_is_not_resumed(
    airflow: StagedAirflow, run: Run, by_push: bool
) -> None:
    frozen(airflow, run)
    airflow.put(run, "failed", start=1, end=5)

    if by_push:
        pushed(run, state="failed", start=1, end=5)
    tick()

    run.refresh_from_db()
    assert story(run) == ["workflow.paused", "workflow.failed"]
    assert (run.state, run.paused) == ("failed", False)


def test_a_pause_and_a_resumption_between_two_polls_leave_no_trace(airflow: StagedAirflow, run: Run) -> None:
    pause(airflow, paused=True)
    pause(airflow, paused=False)

    tick()

    assert (story(run), dag_events()) == ([], 0)


def test_a_run_unpaused_ended_and_retried_in_a_dag_that_is_paused_again(
    airflow: StagedAirflow, run: Run, ada: User
) -> None:
    frozen(airflow, run)
    pause(airflow, paused=False)
    airflow.put(run, "success", start=1, end=5)
    airflow.put_task(run, "extract", "success", start=2, end=3)
    tick()
    pause(airflow, paused=True)
    tick()

    run.refresh_from_db()
    services.retry_run(run=run, actor=ada, mode="all")
    pause(airflow, paused=False)
    tick()

    words = [word for word in story(run) if not word.startswith("task.")]
    assert words == [
        "workflow.paused",
        "workflow.resumed",
        "workflow.completed",
        "workflow.retried",
        "workflow.paused",
        "workflow.resumed",
    ]


@pytest.mark.parametrize("paused", [True, False])
def test_a_run_that_was_marked_as_its_dag_no_longer_is_follows_at_the_next_poll(
    airflow: StagedAirflow, run: Run, paused: bool
) -> None:
    """So it is when Airflow takes a run while its DAG is paused or unpaused."""
    pause(airflow, paused=paused)
    Dag.objects.update(is_paused=paused)
    Run.objects.update(paused=not paused)

    tick()
    tick()

    run.refresh_from_db()
    assert run.paused is paused
    assert story(run) == ["workflow.paused" if paused else "workflow.resumed"]


def test_a_run_of_a_paused_dag_is_pausing_until_its_tasks_have_ended(
    airflow: StagedAirflow, run: Run, as_user: Callable[[User], APIClient], ada: User
) -> None:
    airflow.put_task(run, "extract", "running", start=2)
    tick()
    path = f"/api/v1/workflows/{run.workflow_id}/runs"

    def shown() -> tuple[bool, bool, int, int]:
        client = as_user(ada)
        answer = client.get(f"{path}/{run.pk}").json()
        counts = [len(client.get(path, {"paused": value}).json()["results"]) for value in ("true", "false")]
        return answer["paused"], answer["pausing"], counts[0], counts[1]

    seen = [shown()]
    frozen(airflow, run)
    seen.append(shown())
    airflow.put_task(run, "extract", "success", start=2, end=4)
    airflow.put_task(run, "transform", "scheduled")
    tick()
    seen.append(shown())
    pause(airflow, paused=False)
    tick()
    seen.append(shown())

    assert seen == [(False, False, 0, 1), (False, True, 0, 1), (True, False, 1, 0), (False, False, 0, 1)]
    assert run.events.get(type="workflow.paused").data["still_running"] == ["extract"]


def test_a_run_that_was_held_after_its_trigger_had_reached_airflow_goes_on(nightly: Workflow) -> None:
    run = new_run(nightly, RunState.PENDING, paused=True)
    now = timezone.now()
    command = AirflowCommand.objects.create(
        run=run, kind=CommandKind.TRIGGER, created_at=now, due_at=now, attempts=1, may_have_arrived=True, held=True
    )

    observe(run.pk, Observation(at=now, run=dag_run(run, "running", start=1)))

    run.refresh_from_db()
    command.refresh_from_db()
    assert (run.state, run.paused, command.held) == ("running", False, False)
    assert story(run) == ["workflow.resumed", "workflow.started"]
