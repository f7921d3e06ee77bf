"""Many commands at once: none waits without need, no more than allowed are under way, each workflow keeps its order."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import requests
from django.conf import settings as configured
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.load import nothing_is_pending, run_until, tick
from tests.control.staged import ControlledAirflow
from tests.live.parts import Web
from workflows import gateway
from workflows.airflow.tests.scripted import Reply, Request
from workflows.conftest import token_of
from workflows.dispatch import dispatcher, wake
from workflows.models import Airflow, AirflowCommand, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import new_run, story

pytestmark = pytest.mark.django_db(transaction=True)

CALLERS = 16
TRIGGER = ("POST", "/dags/etl/dagRuns")


class Counting:
    """Answers triggers of `etl` as Airflow does, and counts how many are under way at once.

    The first `together` answers come when all of them are under way.
    """

    def __init__(self, airflow: ControlledAirflow, *, together: int) -> None:
        self.most = 0
        self._airflow = airflow
        self._now = 0
        self._left = together
        self._gate = threading.Barrier(together)
        self._lock = threading.Lock()
        airflow.answers[TRIGGER] = self

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self._left -= 1
            waits = self._left >= 0
        try:
            if waits:
                self._gate.wait(60)
            with self._lock:
                return self._airflow._trigger("etl", request.body)
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def several(nightly: Workflow) -> list[Workflow]:
    """More workflows than calls to Airflow at once."""
    count = configured.AIRFLOW_POOL_CONTROL + 2
    alike = {"dag": nightly.dag, "owner": nightly.owner, "default_parameters": nightly.default_parameters}
    return [Workflow.objects.create(name=f"W{n}", **alike) for n in range(count)]


def accept_while_airflow_is_down(api: APIClient, workflows: list[Workflow], *, rounds: int) -> dict[int, list[str]]:
    """Return the ids in Airflow of the accepted runs of each workflow, in their order."""
    tick()
    Airflow.objects.update(reachable=False)
    accepted: dict[int, list[str]] = {}
    for _ in range(rounds):
        for workflow in workflows:
            answer = api.post(f"/api/v1/workflows/{workflow.pk}/runs", {}).json()
            assert answer["state"] == RunState.PENDING
            accepted.setdefault(workflow.pk, []).append(answer["dag_run_id"])
    Airflow.objects.update(reachable=True)
    return accepted


def started(airflow: ControlledAirflow, accepted: dict[int, list[str]]) -> dict[int, list[str]]:
    """Return the runs in Airflow of each workflow, in the order in which they were created there."""
    return {pk: [run for run in airflow.order if run in runs] for pk, runs in accepted.items()}


def test_what_has_waited_is_dispatched_several_at_once_and_each_workflow_keeps_its_order(
    airflow: ControlledAirflow, several: list[Workflow], api: APIClient
) -> None:
    at_once = configured.AIRFLOW_POOL_CONTROL
    accepted = accept_while_airflow_is_down(api, several, rounds=3)
    counting = Counting(airflow, together=at_once)

    assert dispatcher.dispatch_due(DEFAULT, now=timezone.now()) == 3 * len(several)

    assert counting.most == at_once
    assert started(airflow, accepted) == accepted
    assert nothing_is_pending()
    assert {tuple(story(run)) for run in Run.objects.all()} == {("workflow.triggered",)}


def test_airflow_that_goes_away_in_the_middle_gets_the_rest_later_in_the_order_of_each_workflow(
    airflow: ControlledAirflow, several: list[Workflow], api: APIClient, settings: Settings
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_RESET = 2, 1.0
    gateway.breaker.cache_clear()
    accepted = accept_while_airflow_is_down(api, several, rounds=3)
    left = threading.Semaphore(len(several))

    def then_away(request: Request) -> Reply:
        if not left.acquire(blocking=False):
            raise ConnectionAbortedError("away")
        return airflow._trigger("etl", request.body)

    airflow.answers[TRIGGER] = then_away
    dispatcher.dispatch_due(DEFAULT, now=timezone.now())
    assert len(airflow.order) == len(several)
    assert not gateway.answers(DEFAULT)
    tried = AirflowCommand.objects.filter(attempts__gt=0).count()

    # While it is known to be away, nothing is tried.
    dispatcher.dispatch_due(DEFAULT, now=timezone.now())
    assert AirflowCommand.objects.filter(attempts__gt=0).count() == tried < 3 * len(several)

    del airflow.answers[TRIGGER]
    run_until(nothing_is_pending)
    assert started(airflow, accepted) == accepted
    assert set(Run.objects.values_list("state", flat=True)) == {RunState.QUEUED}


def test_a_stop_does_not_wait_for_the_triggers_of_its_workflow_but_follows_its_own(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    running = new_run(nightly, RunState.RUNNING, started_at=timezone.now())
    airflow.put(running, "running", start=0)
    [waiting] = accept_while_airflow_is_down(api, [nightly], rounds=3).values()
    Airflow.objects.update(reachable=False)
    # Its trigger may have arrived, so its stop follows.
    AirflowCommand.objects.filter(run__dag_run_id=waiting[0]).update(attempts=1, may_have_arrived=True)
    for run in (Run.objects.get(dag_run_id=waiting[0]), running):
        path = f"/api/v1/workflows/{nightly.pk}/runs/{run.pk}/control"
        assert api.post(path, {"action": "stop"}).status_code == 200
    Airflow.objects.update(reachable=True)

    assert dispatcher.dispatch_due(DEFAULT, now=timezone.now()) == 5

    assert nothing_is_pending()
    assert airflow.order[1:] == waiting[1:]
    stopped = Run.objects.get(dag_run_id=waiting[0])
    assert (stopped.state, (running.dag_run_id, "failed") in airflow.marked) == (RunState.STOPPED, True)


@pytest.fixture
def web(tmp_path: Path, airflow: ControlledAirflow) -> Iterator[Web]:
    """A web process that works on all callers at once, however slow the machine is."""
    where = {"AIRFLOW_URL": airflow.url, "AIRFLOW_USERNAME": "admin", "AIRFLOW_PASSWORD": "admin"}
    patient = dict.fromkeys(("AIRFLOW_POOL_WAIT", "DISPATCH_BUDGET", "AIRFLOW_CONNECT_TIMEOUT"), "60")
    patient |= {"REQUESTS_AT_ONCE": str(CALLERS), "DISPATCH_LEASE": "600"}
    with Web(tmp_path, **where, **patient) as web:
        yield web


@pytest.mark.parametrize("size", [1, 3], ids=["single", "batch"])
def test_no_trigger_takes_those_beside_it_for_triggers_that_wait(
    web: Web, airflow: ControlledAirflow, nightly: Workflow, ada: User, size: int
) -> None:
    start = threading.Barrier(CALLERS)
    headers = {"Authorization": f"Bearer {token_of(ada)}"}
    url = f"{web.url}/api/v1/workflows/{nightly.pk}/runs"

    def ask(path: str, body: dict[str, Any]) -> Any:
        return requests.post(url + path, json=body, headers=headers, timeout=120).json()

    def post(caller: int) -> list[tuple[str, str]]:
        start.wait(60)
        answers: list[Any] = []
        for _ in range(3):
            if size == 1:
                answers.append(ask("", {}))
            else:
                answers += [result["run"] for result in ask("/batch", {"items": [{}] * size})["results"]]
        return [(answer["state"], answer["dag_run_id"]) for answer in answers]

    with ThreadPoolExecutor(CALLERS) as pool:
        of_each = list(pool.map(post, range(CALLERS)))

    states = Counter(state for answers in of_each for state, _ in answers)
    assert states == {RunState.QUEUED: CALLERS * 3 * size}
    assert nothing_is_pending()
    for answers in of_each:
        mine = [dag_run_id for _, dag_run_id in answers]
        assert [run for run in airflow.order if run in mine] == mine


def test_a_trigger_behind_one_that_waits_wakes_a_worker_unless_one_is_dispatching(
    airflow: ControlledAirflow, nightly: Workflow, api: APIClient
) -> None:
    [[first]] = accept_while_airflow_is_down(api, [nightly], rounds=1).values()
    path = f"/api/v1/workflows/{nightly.pk}/runs"
    with redis.Redis.from_url(configured.REDIS_URL) as broker:
        broker.delete("celery")
        Airflow.objects.update(dispatch_leased_until=timezone.now() + timedelta(seconds=60))
        second = api.post(path, {}).json()
        assert (second["state"], broker.llen("celery")) == (RunState.PENDING, 0)

        Airflow.objects.update(dispatch_leased_until=None)
        third = api.post(path, {}).json()
        assert (third["state"], broker.llen("celery")) == (RunState.PENDING, 1)
        message = json.loads(cast("bytes", broker.lpop("celery")))
        assert message["headers"]["task"] == wake.TASK

    dispatcher.dispatch_due(DEFAULT, now=timezone.now())
    assert airflow.order == [first, second["dag_run_id"], third["dag_run_id"]]
