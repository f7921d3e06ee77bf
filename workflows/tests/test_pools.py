"""Connections to Airflow, split by what they are for. Waiting for one of our own is no outage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest
from pytest_django import Settings

from accounts.models import User
from workflows import gateway
from workflows.airflow import AirflowClient
from workflows.airflow.errors import AirflowBusyError, AirflowUnavailableError
from workflows.conftest import bearer, token_of
from workflows.gateway import Purpose
from workflows.models import Event, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, new_run


@pytest.fixture(autouse=True)
def _no_patience(settings: Settings) -> None:
    settings.AIRFLOW_POOL_WAIT = 0.01


def logs() -> AirflowClient:
    return gateway.client_of(DEFAULT, purpose=Purpose.LOGS)


@contextmanager
def all_in_use(purpose: Purpose) -> Iterator[int]:
    """Take every connection for this purpose, and give their number."""
    with ExitStack() as held:
        for taken in count():
            client = gateway.patient(logs()) if purpose == Purpose.LOGS else gateway.watched(DEFAULT, purpose=purpose)
            try:
                held.enter_context(client)
            except AirflowBusyError:
                yield taken
                return


@pytest.mark.usefixtures("airflow", "db")
@pytest.mark.parametrize(("purpose", "size"), [(Purpose.CONTROL, 8), (Purpose.LOOKS, 4), (Purpose.LOGS, 3)])
def test_a_purpose_has_as_many_connections_as_its_setting_says_and_takes_none_of_another(
    purpose: Purpose, size: int
) -> None:
    with all_in_use(purpose) as taken:
        assert taken == size
        for other in set(Purpose) - {purpose}:
            with all_in_use(other) as free:
                assert free > 0

    with all_in_use(purpose) as taken_again:
        assert taken_again == size


@pytest.mark.usefixtures("airflow", "db")
def test_a_full_pool_neither_counts_as_a_failure_nor_forgets_the_failures_before() -> None:
    with pytest.raises(AirflowUnavailableError), gateway.watched(DEFAULT):
        raise AirflowUnavailableError("it does not answer now", status=503)

    with all_in_use(Purpose.LOOKS):
        for _ in range(10):
            with pytest.raises(AirflowBusyError), gateway.watched(DEFAULT):
                pass
        assert gateway.breaker(DEFAULT).fail_counter == 1

    assert gateway.answers(DEFAULT)
    assert not Event.objects.filter(type="system.airflow_down").exists()


@pytest.mark.usefixtures("airflow")
def test_a_log_that_fails_does_not_count_for_the_breaker(settings: Settings) -> None:
    for _ in range(settings.BREAKER_FAILURES + 1):
        with pytest.raises(AirflowUnavailableError), gateway.patient(logs()):
            raise AirflowUnavailableError("no answer from Airflow: ReadTimeout")

    assert gateway.breaker(DEFAULT).fail_counter == 0


def test_a_request_that_finds_its_pool_full_is_busy_and_runs_are_still_triggered(
    airflow: StagedAirflow, nightly: Workflow, ada: User
) -> None:
    client = bearer(token_of(ada))
    run = new_run(nightly, RunState.RUNNING)
    airflow.put_task(run, "load", "running")

    with all_in_use(Purpose.LOOKS), all_in_use(Purpose.LOGS):
        answer = client.get(f"/api/v1/workflows/{nightly.pk}/runs/{run.pk}/tasks/load/logs")
        triggered = client.post(f"/api/v1/workflows/{nightly.pk}/runs", {"parameters": {"rows": 1}})

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "busy", "2")
    assert answer.json()["detail"] == "SVOps is busy: all 4 connections for looks are in use. Try again."
    assert (triggered.status_code, triggered.json()["state"]) == (201, "queued")
    assert gateway.answers(DEFAULT)
