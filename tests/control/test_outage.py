"""Airflow is down while triggers keep coming: each is accepted, waits, and starts in Airflow once, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.conftest import forget_airflow
from tests.control.load import Answer, Callers, nothing_is_pending, outages, run_until, tick
from tests.control.parts import Order, Victims
from tests.control.staged import Absence, ControlledAirflow
from workflows import gateway
from workflows.conftest import bearer, token_of
from workflows.dispatch import dispatcher
from workflows.eventlog import events
from workflows.eventlog.tests.layers import layers_at
from workflows.models import AirflowCommand, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import new_run, story
from workflows.watch import poll

pytestmark = pytest.mark.django_db(transaction=True)

BUDGET = 3.0
# A request waits for another to read the version, reads it, signs in and calls: each takes the budget at most.
WORST = 4
# What a request may take besides its waiting for Airflow, on a busy machine.
OWN_WORK = 10.0


def limit(usual: float) -> float:
    """Return how long a request may take, where one that does not wait for Airflow takes `usual`."""
    return WORST * BUDGET + max(OWN_WORK, 5 * usual)


@pytest.fixture(autouse=True)
def _brisk(settings: Settings) -> None:
    settings.DISPATCH_BUDGET = BUDGET
    settings.BREAKER_FAILURES = 2
    settings.BREAKER_RESET = 1.0


@pytest.mark.parametrize("how", ["refuses", "hangs", "answers 503"])
def test_triggers_that_come_while_airflow_goes_away_and_comes_back_all_end_up_there_once(
    airflow: ControlledAirflow, nightly: Workflow, ada: User, how: Absence
) -> None:
    tick()
    with Callers(nightly, ada) as callers:
        run_until(callers.begin(12))
        usual = max(answer.seconds for answer in callers.answers)
        with airflow.away(how):
            unnoticed = callers.begin(12)
            run_until(lambda: not gateway.answers(DEFAULT) and not gateway.breaker_is_closed(DEFAULT))
            run_until(unnoticed)
            before = len(callers.answers)
            run_until(callers.begin(24))
            during = callers.answers[before:]
        back = callers.begin(12)
        run_until(lambda: gateway.answers(DEFAULT))
        run_until(back)
        run_until(callers.begin(12))
    run_until(nothing_is_pending)

    answers = callers.answers
    assert [answer.status for answer in answers] == [201] * 72
    assert {answer.state for answer in during} == {RunState.PENDING}
    assert max(answer.seconds for answer in answers) < limit(usual)
    runs = {str(run.pk): run for run in Run.objects.all()}
    assert sorted(runs) == sorted(answer.run_id for answer in answers)
    assert {run.state for run in runs.values()} == {RunState.QUEUED}
    assert sorted(airflow.order) == sorted(run.dag_run_id for run in runs.values())
    assert {tuple(story(run)) for run in runs.values()} == {("workflow.triggered",)}
    assert outages() == ["system.airflow_down", "system.airflow_up"]
    # Runs accepted while Airflow was known to be down keep their order.
    waited = [runs[answer.run_id] for answer in during]
    expected = AirflowCommand.objects.filter(run__in=waited).order_by("pk").values_list("run__dag_run_id", flat=True)
    assert [dag_run_id for dag_run_id in airflow.order if dag_run_id in set(expected)] == list(expected)


@pytest.mark.parametrize("how", ["refuses", "hangs", "answers 503"])
def test_runs_accepted_during_an_outage_are_dispatched_in_the_order_of_acceptance(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, how: Absence
) -> None:
    tick()
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    with airflow.away(how):
        answers = [api.post(path, {"task_id": n}).json() for n in range(15)]
        tick()
    assert {answer["state"] for answer in answers} == {RunState.PENDING}
    assert airflow.order == []

    run_until(nothing_is_pending)

    assert airflow.order == [answer["dag_run_id"] for answer in answers]


def usual_time(user: User, workflow: Workflow) -> float:
    """Return how long a request takes on this machine, as one of 16, if it does not wait for Airflow."""
    body = {"run_at": (timezone.now() + timedelta(days=1)).isoformat()}
    answers = at_once(user, [(f"/api/v1/workflows/{workflow.pk}/runs", body)] * 16)
    return max(answer.seconds for answer in answers)


def at_once(user: User, orders: list[tuple[str, dict[str, Any]]]) -> list[Answer]:
    """POST all of these at the same moment."""
    start = threading.Barrier(len(orders))
    clients = [bearer(token_of(user)) for _ in orders]

    def post(client: APIClient, order: tuple[str, dict[str, Any]]) -> Answer:
        start.wait(30)
        began = time.monotonic()
        try:
            answer = client.post(*order)
        finally:
            connection.close()
        read = answer.json()
        return Answer(answer.status_code, read["state"], read["id"], time.monotonic() - began)

    with ThreadPoolExecutor(len(orders)) as pool:
        return list(pool.map(post, clients, orders))


@pytest.mark.parametrize("how", ["refuses", "hangs", "answers 503"])
def test_triggers_at_once_are_answered_within_the_budget_when_nobody_has_noticed_that_airflow_is_away(
    airflow: ControlledAirflow, nightly: Workflow, ada: User, how: Absence
) -> None:
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    usual = usual_time(ada, nightly)
    with airflow.away(how):
        answers = at_once(ada, [(path, {"task_id": n}) for n in range(16)])
        # One "not now" is no outage yet, and how many have called by now is chance.
        run_until(lambda: not gateway.answers(DEFAULT))

    assert [(answer.status, answer.state) for answer in answers] == [(201, RunState.PENDING)] * 16
    assert max(answer.seconds for answer in answers) < limit(usual)
    assert Run.objects.filter(state=RunState.PENDING, run_at=None).count() == 16
    assert outages() == ["system.airflow_down"]


@pytest.mark.parametrize("how", ["refuses", "hangs", "answers 503"])
def test_stops_at_once_are_answered_within_the_budget_when_nobody_has_noticed_that_airflow_is_away(
    airflow: ControlledAirflow, nightly: Workflow, ada: User, how: Absence
) -> None:
    """Stops have no order among them: all of them call at the same time, over new connections."""
    runs = [new_run(nightly, RunState.RUNNING) for _ in range(16)]
    usual = usual_time(ada, nightly)
    with airflow.away(how):
        paths = [f"/api/v1/workflows/{nightly.pk}/runs/{run.pk}/control" for run in runs]
        answers = at_once(ada, [(path, {"action": "stop"}) for path in paths])

    assert [(answer.status, answer.state) for answer in answers] == [(200, RunState.STOPPING)] * 16
    assert max(answer.seconds for answer in answers) < limit(usual)
    assert outages() == ["system.airflow_down"]


def test_an_answer_that_says_not_now_is_no_outage_until_the_breaker_opens(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    tick()
    with airflow.away("answers 503"):
        assert not poll.tick(DEFAULT, now=timezone.now())
        assert (gateway.answers(DEFAULT), gateway.breaker_is_closed(DEFAULT), outages()) == (True, True, [])
        assert not poll.tick(DEFAULT, now=timezone.now())
        assert (gateway.answers(DEFAULT), gateway.breaker_is_closed(DEFAULT), outages()) == (
            False,
            False,
            ["system.airflow_down"],
        )

    run_until(lambda: gateway.answers(DEFAULT))

    assert outages() == ["system.airflow_down", "system.airflow_up"]


def test_a_trigger_that_airflow_answers_with_one_503_is_dispatched_later_and_no_outage_is_recorded(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    tick()
    with airflow.away("answers 503"):
        answer = api.post(f"/api/v1/workflows/{nightly.pk}/runs", {}).json()
    assert (answer["state"], airflow.order) == (RunState.PENDING, [])
    command = AirflowCommand.objects.get()
    assert (command.attempts, command.last_error) == (1, "down for maintenance")
    assert command.due_at > command.created_at

    run_until(nothing_is_pending)

    assert airflow.order == [answer["dag_run_id"]]
    assert outages() == []


def test_an_open_breaker_that_nobody_has_recorded_is_an_outage(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, settings: Settings
) -> None:
    settings.BREAKER_RESET = 60  # on a busy machine too, it is still open when the test looks
    tick()
    gateway.breaker(DEFAULT).open()

    assert not poll.tick(DEFAULT, now=timezone.now())

    assert (gateway.answers(DEFAULT), outages()) == (False, ["system.airflow_down"])


def test_a_call_that_hung_in_an_outage_and_fails_after_it_records_no_second_outage(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    tick()
    began = timezone.now()
    gateway.record_down(DEFAULT, reason="it hangs", since=began, now=timezone.now())
    tick()

    gateway.record_down(DEFAULT, reason="the other one that hung", since=began, now=timezone.now())

    assert gateway.answers(DEFAULT)
    assert outages() == ["system.airflow_down", "system.airflow_up"]


def test_the_breaker_opens_after_its_failures_for_every_process_and_closes_when_airflow_is_back(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, settings: Settings
) -> None:
    settings.BREAKER_RESET = 60  # on a busy machine too, it is still open when the test looks
    circuit = Order(action="circuit")
    with Victims() as others:
        assert others.live(circuit).outcome is True
        with airflow.away("refuses"):
            poll.tick(DEFAULT, now=timezone.now())
            assert (gateway.breaker_is_closed(DEFAULT), others.live(circuit).outcome) == (True, True)
            poll.tick(DEFAULT, now=timezone.now())
            assert (gateway.breaker_is_closed(DEFAULT), others.live(circuit).outcome) == (False, False)
            # The breaker is open: Airflow is not called.
            asked = len(airflow.requests)
        assert not poll.tick(DEFAULT, now=timezone.now())
        assert len(airflow.requests) == asked

        gateway.breaker(DEFAULT).reset_timeout = 0
        run_until(lambda: gateway.answers(DEFAULT))

        assert (gateway.breaker_is_closed(DEFAULT), others.live(circuit).outcome) == (True, True)
    assert outages() == ["system.airflow_down", "system.airflow_up"]


@pytest.fixture
def redis_away(settings: Settings, airflow: ControlledAirflow, unused_tcp_port: int) -> Iterator[None]:
    """Nobody listens where Redis should be, already before its first use."""
    forget_airflow()
    settings.REDIS_URL = f"redis://127.0.0.1:{unused_tcp_port}/0"
    settings.CHANNEL_LAYERS = layers_at(settings.REDIS_URL)
    gateway.breaker.cache_clear()
    yield
    gateway.breaker.cache_clear()


def test_without_redis_triggers_reach_airflow_and_controls_work(
    redis_away: None,
    airflow: ControlledAirflow,
    nightly: Workflow,
    api: APIClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tick()
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    answer = api.post(path, {})
    assert (answer.status_code, answer.json()["state"]) == (201, RunState.QUEUED)
    assert gateway.breaker_is_closed(DEFAULT)

    stopped = api.post(f"{path}/{answer.json()['id']}/control", {"action": "stop"})

    assert (stopped.status_code, stopped.json()["state"]) == (200, RunState.STOPPING)
    assert airflow.marked == [(answer.json()["dag_run_id"], "failed")]
    logged = [record for record in caplog.records if record.name == "pybreaker"]
    assert logged
    assert [record for record in logged if record.exc_info] == []


def test_without_redis_and_airflow_triggers_are_accepted_and_dispatched_later(
    redis_away: None, airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    tick()
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    with airflow.away("refuses"):
        answers = [api.post(path, {}) for _ in range(4)]
        for _ in range(4):
            tick()
        assert gateway.breaker_is_closed(DEFAULT)
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(201, RunState.PENDING)] * 4

    run_until(nothing_is_pending)

    assert airflow.order == [answer.json()["dag_run_id"] for answer in answers]
    assert outages() == ["system.airflow_down", "system.airflow_up"]


def pending_run(airflow: ControlledAirflow, workflow: Workflow, api: APIClient, **body: Any) -> Run:
    """Accept a run while Airflow is down. Airflow stays down."""
    airflow.go_away("answers 503")
    answer = api.post(f"/api/v1/workflows/{workflow.pk}/runs", body)
    assert answer.json()["state"] == RunState.PENDING
    return Run.objects.get(pk=answer.json()["id"])


def test_a_trigger_that_could_not_be_dispatched_fails_with_the_reason_at_its_deadline(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, settings: Settings
) -> None:
    run = pending_run(airflow, nightly, api)
    deadline = run.created_at + timedelta(seconds=settings.DISPATCH_DEADLINE)

    dispatcher.dispatch_due(DEFAULT, now=deadline)
    run.refresh_from_db()
    assert run.state == RunState.PENDING

    dispatcher.dispatch_due(DEFAULT, now=deadline + timedelta(seconds=1))
    run.refresh_from_db()

    reason = "Could not dispatch the run to Airflow: down for maintenance; the deadline has passed"
    assert (run.state, run.state_reason) == (RunState.FAILED, reason)
    assert story(run) == ["workflow.triggered", "workflow.failed"]
    failed = run.events.get(type=events.WorkflowFailed.type)
    assert failed.data["reason"] == reason
    airflow.come_back()
    run_until(lambda: gateway.answers(DEFAULT) and nothing_is_pending())
    assert airflow.order == []


def test_the_deadline_of_a_delayed_run_counts_from_its_time(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, settings: Settings
) -> None:
    run_at = timezone.now() + timedelta(days=2)
    run = pending_run(airflow, nightly, api)
    late = pending_run(airflow, nightly, api, run_at=run_at.isoformat())

    dispatcher.dispatch_due(DEFAULT, now=run_at + timedelta(seconds=settings.DISPATCH_DEADLINE - 1))

    states = dict(Run.objects.values_list("pk", "state"))
    assert (states[run.pk], states[late.pk]) == (RunState.FAILED, RunState.PENDING)
    dispatcher.dispatch_due(DEFAULT, now=run_at + timedelta(seconds=settings.DISPATCH_DEADLINE + 1))
    late.refresh_from_db()
    assert late.state == RunState.FAILED


def test_a_held_run_has_no_deadline(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient, settings: Settings
) -> None:
    run = pending_run(airflow, nightly, api)
    held = api.post(f"/api/v1/workflows/{nightly.pk}/runs/{run.pk}/control", {"action": "pause"})
    assert (held.status_code, held.json()["paused"]) == (200, True)

    dispatcher.dispatch_due(DEFAULT, now=run.created_at + timedelta(seconds=settings.DISPATCH_DEADLINE + 1))

    run.refresh_from_db()
    assert (run.state, run.paused) == (RunState.PENDING, True)


def test_a_trigger_that_airflow_refuses_for_good_fails_at_once_and_delays_no_other(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    first, second = (pending_run(airflow, nightly, api) for _ in range(2))
    refuse = {"detail": "DAG with dag_id: 'etl' has import errors"}
    airflow.refuse_run(first.dag_run_id, status=400, body=refuse)
    airflow.come_back()

    run_until(lambda: gateway.answers(DEFAULT) and nothing_is_pending())

    first.refresh_from_db()
    second.refresh_from_db()
    reason = "Could not dispatch the run to Airflow: DAG with dag_id: 'etl' has import errors"
    assert (first.state, first.state_reason) == (RunState.FAILED, reason)
    assert (second.state, airflow.order) == (RunState.QUEUED, [second.dag_run_id])
    assert outages() == ["system.airflow_down", "system.airflow_up"]
