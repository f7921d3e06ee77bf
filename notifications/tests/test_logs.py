"""Messages to people contain the end of the failed task's log, if Airflow answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from notifications import logs
from notifications.tests.conftest import MakeConfig, deliver, fail, start_run
from notifications.tests.receiver import Receiver
from workflows import gateway
from workflows.models import Airflow, Run, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import StagedAirflow

pytestmark = pytest.mark.django_db


@pytest.fixture
def airflow(settings: Settings) -> Iterator[StagedAirflow]:
    with StagedAirflow() as server:
        settings.AIRFLOW_URL = server.url
        settings.AIRFLOW_USERNAME = settings.AIRFLOW_PASSWORD = "admin"
        _forget()
        yield server
    _forget()


def _forget() -> None:
    gateway.breaker(DEFAULT).close()
    gateway.pooled_client.cache_clear()
    logs._tail.cache_clear()


@pytest.fixture
def run(workflow: Workflow, airflow: StagedAirflow) -> Run:
    run = start_run(workflow)
    TaskInstance.objects.create(run=run, task_id="load", state="failed", try_number=2)
    airflow.put_task(run, "load", "failed", tries=2)
    airflow.put_log(run, "load", "::group::Pre Execute", *(f"line {n}" for n in range(20)), "KeyError: 'x'", tries=2)
    return run


def log_calls(airflow: StagedAirflow) -> int:
    return sum("/logs/" in path for _, path in airflow.calls)


def test_people_see_the_end_of_the_log_which_is_read_once_for_all_of_them(
    run: Run, airflow: StagedAirflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    for name in ("One", "Two"):
        make_config(name=name, channel="slack")
    fail(run, "load")

    deliver()

    for request in receiver.received:
        text = request.body.decode()
        assert "line 19\\nKeyError: 'x'" in text
        assert "line 5" not in text
        assert "::group::" not in text
    assert (len(receiver.received), log_calls(airflow)) == (2, 1)


def test_programs_get_the_envelope_and_airflow_is_not_asked(
    run: Run, airflow: StagedAirflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config()
    fail(run, "load")

    deliver()

    assert (len(receiver.received), log_calls(airflow)) == (1, 0)


def test_without_airflow_the_message_goes_without_the_log(
    run: Run, airflow: StagedAirflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    make_config(channel="slack")
    Airflow.default()
    Airflow.objects.update(reachable=False)
    fail(run, "load")

    deliver()

    assert "exit 1" in receiver.received[0].body.decode()
    assert log_calls(airflow) == 0


def test_a_log_that_is_gone_delays_no_message(
    run: Run, airflow: StagedAirflow, make_config: MakeConfig, receiver: Receiver
) -> None:
    airflow.logs.clear()
    make_config(channel="slack")
    fail(run, "load")

    deliver()

    assert "exit 1" in receiver.received[0].body.decode()
