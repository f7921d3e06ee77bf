"""Each command is dispatched by one worker, in order, under a lease."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.models import User
from workflows import services
from workflows.airflow import Timeout
from workflows.airflow.tests.scripted import Drip, Hold
from workflows.dispatch import dispatcher
from workflows.dispatch.tests.steps import TRIGGER, dispatch_pending, later, trigger, waiting, was_taken
from workflows.models import Airflow, AirflowCommand, CommandKind, Run, Workflow
from workflows.tests.stage import StagedAirflow

pytestmark = pytest.mark.django_db(transaction=True)


def closing(work: Callable[[], Any]) -> Callable[[], Any]:
    def run_and_close() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return run_and_close


def test_only_one_of_two_workers_at_once_dispatches_the_command(
    airflow: StagedAirflow, pending: AirflowCommand
) -> None:
    held = Hold()
    airflow.next_api_calls.append(held)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(closing(lambda: was_taken(pending)))
        assert held.arrived.wait(20)
        second = was_taken(AirflowCommand.objects.get())
        held.released.set()

        assert (first.result(30), second) == (True, False)
    assert airflow.calls.count(TRIGGER) == 1
    assert AirflowCommand.objects.get().attempts == 1


def test_what_a_dead_worker_had_begun_is_not_overtaken_when_another_takes_over_the_dispatch(
    airflow: StagedAirflow, nightly: Workflow, pending: AirflowCommand
) -> None:
    Airflow.objects.update(reachable=False)
    trigger(nightly)
    Airflow.objects.update(reachable=True)
    AirflowCommand.objects.filter(pk=pending.pk).update(leased_until=later(20), attempts=1, may_have_arrived=True)

    assert dispatch_pending() is False
    assert (waiting(), airflow.runs) == (["trigger", "trigger"], {})

    AirflowCommand.objects.filter(pk=pending.pk).update(leased_until=later(-1))
    assert dispatch_pending() is True
    order = AirflowCommand.objects.order_by("pk").values_list("run__dag_run_id", flat=True)
    assert [dag_run_id for _, dag_run_id in airflow.runs] == list(order)


def test_no_call_outlasts_the_lease_however_long_airflow_takes_to_answer(
    airflow: StagedAirflow, pending: AirflowCommand, settings: Settings
) -> None:
    settings.DISPATCH_LEASE = 2
    assert Timeout.total > settings.DISPATCH_LEASE
    airflow.next_api_calls.append(drip := Drip(pace=0.02))

    assert was_taken(pending)
    drip.ended.set()

    command = AirflowCommand.objects.get()
    assert (command.last_error, command.leased_until) == ("Airflow's answer did not end in time", None)


def test_a_worker_that_has_lost_its_lease_leaves_the_lease_of_another_alone(
    airflow: StagedAirflow, nightly: Workflow, pending: AirflowCommand
) -> None:
    airflow.next_api_calls.append(held := Hold())
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(closing(dispatch_pending))
        assert held.arrived.wait(30)
        others = later(100)
        Airflow.objects.update(dispatch_leased_until=others)
        held.released.set()
        working.result(30)

    assert Airflow.default().dispatch_leased_until == others


def test_an_expired_lease_is_taken_over(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    AirflowCommand.objects.update(leased_until=later(-1), attempts=1)

    assert was_taken(AirflowCommand.objects.get())

    assert (waiting(), len(airflow.runs)) == ([], 1)


def test_a_lease_that_has_not_expired_is_respected(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    AirflowCommand.objects.update(leased_until=later(20), attempts=1)

    assert not was_taken(pending)

    assert (waiting(), airflow.runs) == (["trigger"], {})
    assert AirflowCommand.objects.get().attempts == 1


def test_a_command_that_is_finished_is_not_dispatched_again(airflow: StagedAirflow, pending: AirflowCommand) -> None:
    stale = AirflowCommand.objects.get()
    was_taken(pending)

    assert not was_taken(stale)

    assert airflow.calls.count(TRIGGER) == 1


def test_a_command_waits_for_the_earlier_one_of_its_run(
    airflow: StagedAirflow, pending: AirflowCommand, ada: User
) -> None:
    AirflowCommand.objects.update(leased_until=later(20), attempts=1, may_have_arrived=True)
    run = Run.objects.get()
    services.stop_run(run=run, actor=ada)
    stop = AirflowCommand.objects.get(kind="stop")

    assert not was_taken(stop)

    assert (waiting(), airflow.marked) == (["trigger", "stop"], [])


ELSEWHERE = "elsewhere"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"due_at": later(86_400)},
        {"held": True},
        {"finished_at": later()},
        {"kind": CommandKind.STOP},
        {"airflow": ELSEWHERE},
        {"workflow": None},
        {"leased_until": later(86_400)},
    ],
    ids=lambda changes: ", ".join(changes) or "as it is",
)
def test_a_new_trigger_waits_exactly_if_one_of_its_workflow_is_due(
    airflow: StagedAirflow, nightly: Workflow, pending: AirflowCommand, changes: dict[str, Any]
) -> None:
    Airflow.objects.create(name=ELSEWHERE)
    AirflowCommand.objects.filter(pk=pending.pk).update(**changes)
    now = later()

    has_waiting = AirflowCommand.objects.triggers_due(nightly.pk, nightly.dag.airflow_name, now).exists()

    assert (dispatcher.prospect(nightly, now=now).leased_until is None) == has_waiting
    assert has_waiting == (set(changes) <= {"leased_until"})
