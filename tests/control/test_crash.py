"""A process that dies at any step of a trigger, a dispatch or a control action leaves nothing, or what is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.parts import Ending, Order, Victims, carry_on
from tests.control.staged import ControlledAirflow, Exchange
from workflows.conftest import token_of
from workflows.eventlog import events
from workflows.models import (
    Airflow,
    AirflowCommand,
    CommandKind,
    Event,
    IdempotencyKey,
    LogHead,
    Run,
    Workflow,
)
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import at, new_run, story
from workflows.watch import poll

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

EXCHANGES = [("GET", "/version"), ("POST", "/auth/token"), ("POST", "/dagRuns")]


@pytest.fixture
def victims(airflow: ControlledAirflow, nightly: Workflow) -> Iterator[Victims]:
    with Victims() as victims:
        yield victims


@pytest.fixture
def token(ada: User) -> str:
    return token_of(ada)


Deaths = Callable[..., Sequence[int]]


@pytest.fixture
def deaths(request: pytest.FixtureRequest) -> Deaths:
    """Return the steps to die at, of an order that was executed completely.

    Between two effects outside of the process it does not matter where it dies. So it dies once before each effect, and
    at the last step. With `--long` it dies at `at_most` steps, evenly spread.
    """

    def deaths(whole: Ending, *, at_most: int) -> Sequence[int]:
        if request.config.getoption("--long"):
            return spread(whole.steps, at_most)
        assert {what for _, what in whole.effects} >= {"commit", "request"}
        return sorted({step for step, _ in whole.effects} | {whole.steps})

    return deaths


def spread(steps: int, count: int) -> Sequence[int]:
    """At most `count` different steps, evenly over all of them, the first and the last among them."""
    if steps <= count:
        return range(1, steps + 1)
    return sorted({1 + round(n * (steps - 1) / (count - 1)) for n in range(count)})


def trigger(workflow: Workflow, token: str, key: str) -> Order:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    body = {"task_id": key, "parameters": {"rows": 5}}
    return Order(action="request", path=f"/api/v1/workflows/{workflow.pk}/runs", body=body, headers=headers)


def control(run: Run, token: str, action: str, **options: Any) -> Order:
    path = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/control"
    headers = {"Authorization": f"Bearer {token}"}
    return Order(action="request", path=path, body={"action": action, **options}, headers=headers)


def is_committed(key: str) -> bool:
    """Return whether the trigger is stored. It must be stored with everything that belongs to it, or not at all."""
    runs = Run.objects.filter(task_id=key)
    stored = [
        runs.count(),
        IdempotencyKey.objects.filter(key=key, run__in=runs).count(),
        Event.objects.filter(run__in=runs, type=events.WorkflowTriggered.type).count(),
        AirflowCommand.objects.filter(run__in=runs, kind=CommandKind.TRIGGER).count(),
    ]
    assert stored in ([0, 0, 0, 0], [1, 1, 1, 1]), key
    return stored == [1, 1, 1, 1]


def check_the_log() -> None:
    """Every event has one place, in the log and in its run, with no gaps."""
    positions = list(Event.objects.order_by("position").values_list("position", flat=True))
    assert positions == list(range(1, len(positions) + 1))
    assert LogHead.objects.get().position == len(positions)
    for run in Run.objects.all():
        assert list(run.events.order_by("seq").values_list("seq", flat=True)) == list(range(1, run.event_count + 1))


def repeat(api: APIClient, order: Order) -> tuple[int, bool, str]:
    """Do what a client does that got no answer."""
    headers = {"Idempotency-Key": order.headers["Idempotency-Key"]}
    answer = api.post(order.path, order.body, headers=headers)
    return answer.status_code, answer.headers.get("Idempotent-Replayed") == "true", answer.json()["id"]


class Tally:
    """Collects what must exist after all deaths: a run in Airflow for each key, in the order of acceptance."""

    def __init__(self, airflow: ControlledAirflow, api: APIClient) -> None:
        self._airflow = airflow
        self._api = api
        self.deaths = 0

    def settle(self, order: Order, where: str) -> Run:
        """After a death, the platform carries on and the client repeats its request. Return the one run in Airflow."""
        self.deaths += 1
        committed = is_committed(order.headers["Idempotency-Key"])
        carry_on()
        before = Run.objects.filter(task_id=order.body["task_id"]).first()
        assert (before is not None, before and before.state) == (committed, RunState.QUEUED if committed else None)

        status, replayed, run_id = repeat(self._api, order)

        run = Run.objects.get(task_id=order.body["task_id"])
        assert (status, replayed, run_id, where) == (201, committed, str(run.pk), where)
        assert (run.state, self._airflow.order.count(run.dag_run_id), where) == (RunState.QUEUED, 1, where)
        return run

    def close(self) -> None:
        assert poll.tick(DEFAULT, now=timezone.now())
        runs = Run.objects.order_by("created_at")
        assert sorted(self._airflow.order) == sorted(run.dag_run_id for run in runs)
        assert {run.state for run in runs} == {RunState.QUEUED}
        assert {tuple(story(run)) for run in runs} == {("workflow.triggered",)}
        assert not AirflowCommand.objects.filter(finished_at__isnull=True).exists()
        check_the_log()


def test_a_trigger_killed_at_any_step_ends_in_one_run_in_airflow_or_never_was(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, deaths: Deaths
) -> None:
    tally = Tally(airflow, api)
    victims.live(trigger(nightly, token, "first"))
    whole = victims.live(trigger(nightly, token, "whole"))
    assert (whole.outcome["status"], whole.outcome["body"]["state"]) == (201, RunState.QUEUED)

    steps = deaths(whole, at_most=131)
    for step in steps:
        order = trigger(nightly, token, f"step-{step}")
        ending = victims.send(order, dies_at=step)
        assert ending.killed, f"it had ended before step {step} of {whole.steps}"
        tally.settle(order, ending.at)

    tally.close()
    assert tally.deaths == len(steps)


@pytest.mark.parametrize(("method", "path"), EXCHANGES)
def test_a_trigger_killed_while_airflow_answers_ends_in_one_run_however_far_airflow_had_come(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, method: str, path: str
) -> None:
    tally = Tally(airflow, api)
    for moment, late in (("before", False), ("before", True), ("after", False)):
        order = trigger(nightly, token, f"{path} {moment} {late}")
        airflow.exchange = Exchange(method, path, "before" if moment == "before" else "after", lost=not late)
        ending = victims.die_in(airflow.exchange, order)
        assert ending.killed
        exchange, airflow.exchange = airflow.exchange, None

        run = tally.settle(order, f"{path} {moment}")
        # What the dead process had sent is executed now, after everything else.
        exchange.end()

        assert airflow.order.count(run.dag_run_id) == 1

    tally.close()


def test_a_dispatch_killed_at_any_step_starts_each_run_once_and_in_order(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, deaths: Deaths
) -> None:
    def accepted(step: int) -> list[Run]:
        """Two runs that were accepted while Airflow was down."""
        Airflow.objects.update_or_create(pk=1, defaults={"reachable": False})
        orders = [trigger(nightly, token, f"step-{step}-{n}") for n in (1, 2)]
        answers = [repeat(api, order) for order in orders]
        Airflow.objects.update(reachable=True)
        runs = [Run.objects.get(pk=run_id) for _, _, run_id in answers]
        assert [run.state for run in runs] == [RunState.PENDING] * 2
        return runs

    tally = Tally(airflow, api)
    accepted(-1)
    victims.live(Order(action="dispatch"))
    accepted(0)
    whole = victims.live(Order(action="dispatch"))
    assert whole.outcome == 2

    for step in deaths(whole, at_most=60):
        runs = accepted(step)
        ending = victims.send(Order(action="dispatch"), dies_at=step)
        assert ending.killed, f"it had ended before step {step} of {whole.steps}"

        carry_on()

        assert airflow.order[-2:] == [run.dag_run_id for run in runs], ending.at

    tally.close()


def test_a_dispatch_of_several_workflows_killed_at_any_step_starts_each_run_once_and_in_the_order_of_its_workflow(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str
) -> None:
    others = [Workflow.objects.create(name=f"W{n}", dag=nightly.dag, owner=nightly.owner) for n in range(2)]

    def accepted(step: int) -> dict[int, list[str]]:
        """Two runs of each workflow, accepted in turns while Airflow was down."""
        Airflow.objects.update_or_create(pk=1, defaults={"reachable": False})
        runs: dict[int, list[str]] = {}
        for n in range(2):
            for workflow in (nightly, *others):
                _, _, run_id = repeat(api, trigger(workflow, token, f"step-{step}-{n}-{workflow.pk}"))
                runs.setdefault(workflow.pk, []).append(f"svops__{run_id}")
        Airflow.objects.update(reachable=True)
        return runs

    tally = Tally(airflow, api)
    accepted(-1)
    victims.live(Order(action="dispatch"))
    accepted(0)
    whole = victims.live(Order(action="dispatch"))
    assert whole.outcome == 6

    # Threads take turns in another way each time, so the number of steps differs a little.
    for step in spread(whole.steps * 9 // 10, 8):
        runs = accepted(step)
        ending = victims.send(Order(action="dispatch"), dies_at=step)
        assert ending.killed, f"it had ended before step {step} of {whole.steps}"

        carry_on()

        for order in runs.values():
            assert [run for run in airflow.order if run in order] == order, ending.at

    tally.close()


def finish(airflow: ControlledAirflow, run: Run) -> None:
    """Let Airflow finish its commands, and let the platform poll it."""
    carry_on()
    assert poll.tick(DEFAULT, now=timezone.now())
    run.refresh_from_db()


def test_a_stop_killed_at_any_step_stops_the_run_or_was_never_asked_for(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, deaths: Deaths
) -> None:
    def running() -> Run:
        run = new_run(nightly, RunState.RUNNING, started_at=timezone.now())
        airflow.put(run, "running", start=0)
        return run

    victims.live(control(running(), token, "stop"))
    whole = victims.live(control(running(), token, "stop"))
    assert (whole.outcome["status"], whole.outcome["body"]["state"]) == (200, RunState.STOPPING)

    for step in deaths(whole, at_most=12):
        run = running()
        ending = victims.send(control(run, token, "stop"), dies_at=step)
        assert ending.killed
        run.refresh_from_db()
        asked = run.state == RunState.STOPPING
        assert AirflowCommand.objects.filter(run=run, kind=CommandKind.STOP).count() == asked

        finish(airflow, run)
        if not asked:
            assert (run.state, story(run), airflow.runs[run.dag_id, run.dag_run_id]["state"]) == (
                "running",
                [],
                "running",
            )
            order = control(run, token, "stop")
            assert api.post(order.path, order.body).status_code == 200
            finish(airflow, run)

        assert (run.state, story(run), ending.at) == (RunState.STOPPED, ["workflow.stopped"], ending.at)
        assert airflow.runs[run.dag_id, run.dag_run_id]["state"] == "failed"
    check_the_log()


def test_a_retry_killed_at_any_step_runs_the_tasks_again_once_or_was_never_asked_for(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, deaths: Deaths
) -> None:
    def failed() -> Run:
        run = new_run(nightly, RunState.FAILED, started_at=at(0), ended_at=at(9))
        airflow.put(run, "failed", start=0, end=9)
        airflow.put_task(run, "extract", "failed", start=0, end=9)
        run.tasks.create(task_id="extract", state="failed", try_number=1, started_at=at(0), ended_at=at(9))
        return run

    victims.live(control(failed(), token, "retry"))
    whole = victims.live(control(failed(), token, "retry"))
    assert (whole.outcome["status"], whole.outcome["body"]["state"]) == (200, RunState.QUEUED)

    for step in deaths(whole, at_most=12):
        run = failed()
        ending = victims.send(control(run, token, "retry"), dies_at=step)
        assert ending.killed
        run.refresh_from_db()
        asked = run.state == RunState.QUEUED
        assert [run.attempt, run.attempts.count(), run.commands.count()] == ([2, 1, 1] if asked else [1, 0, 0])

        carry_on()
        if not asked:
            order = control(run, token, "retry")
            assert api.post(order.path, order.body).status_code == 200

        run.refresh_from_db()
        assert (run.state, run.attempt, story(run), ending.at) == ("queued", 2, ["workflow.retried"], ending.at)
        assert [body["dag_run_id"] for body in airflow.cleared].count(run.dag_run_id) == 1
    check_the_log()


def test_a_pause_killed_at_any_step_pauses_the_dag_and_records_it_once_or_was_never_asked_for(
    airflow: ControlledAirflow, nightly: Workflow, victims: Victims, api: APIClient, token: str, deaths: Deaths
) -> None:
    run = new_run(nightly, RunState.RUNNING, started_at=timezone.now())
    airflow.put(run, "running", start=0)
    pause, resume = (control(run, token, action) for action in ("pause", "resume"))
    recorded: list[str] = []

    def undo() -> None:
        assert api.post(resume.path, resume.body).status_code == 200
        recorded.extend(["workflow.paused", "workflow.resumed"])
        assert airflow.dags["etl"]["listed"]["is_paused"] is False

    for _ in range(2):
        whole = victims.live(pause)
        assert (whole.outcome["status"], whole.outcome["body"]["paused"]) == (200, True)
        undo()

    for step in deaths(whole, at_most=12):
        ending = victims.send(pause, dies_at=step)
        assert ending.killed
        run.refresh_from_db()
        asked = run.paused
        assert AirflowCommand.objects.filter(finished_at__isnull=True).count() <= asked

        carry_on()
        assert airflow.dags["etl"]["listed"]["is_paused"] is asked, ending.at
        if not asked:
            assert api.post(pause.path, pause.body).status_code == 200
        nightly.dag.refresh_from_db()
        assert (nightly.dag.is_paused, airflow.dags["etl"]["listed"]["is_paused"]) == (True, True)
        undo()
        assert story(run) == recorded, ending.at
    check_the_log()
