"""What `/metrics` says of each Airflow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.airflows.conftest import PROD
from tests.control.staged import ControlledAirflow
from workflows import gateway
from workflows.models import Airflow, AirflowCommand, CommandKind, Dag, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import new_run
from workflows.watch import arrivals

pytestmark = pytest.mark.django_db


def scraped() -> dict[str, dict[str, float]]:
    """Return the values of each gauge, by their labels as one text."""
    text = Client().get("/metrics").content.decode()
    return {
        family.name: {" ".join(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


def on_prod(nightly: Workflow) -> Workflow:
    """A workflow on the DAG of the same name in prod."""
    dag = Dag.objects.create(dag_id="etl", airflow_id=PROD)
    return Workflow.objects.create(name="Elsewhere", dag=dag, owner=nightly.owner)


def test_each_airflow_has_its_own_values(
    airflow: ControlledAirflow, prod: ControlledAirflow, nightly: Workflow
) -> None:
    now = timezone.now()
    Airflow.objects.filter(name=DEFAULT).update(looked_at=now, ticked_at=now - timedelta(minutes=5))
    Airflow.objects.filter(name=PROD).update(looked_at=now - timedelta(minutes=2), ticked_at=now, reachable=False)
    gateway.breaker(PROD).open()
    elsewhere = on_prod(nightly)
    new_run(nightly, RunState.RUNNING)
    for state in (RunState.QUEUED, RunState.PENDING):
        run = new_run(elsewhere, state)
    AirflowCommand.objects.create(
        kind=CommandKind.TRIGGER, run=run, workflow=elsewhere, airflow_id=PROD, created_at=now, due_at=now
    )

    values = scraped()

    assert values["svops_airflow_up"] == {DEFAULT: 1, PROD: 0}
    assert values["svops_airflow_circuit_closed"] == {DEFAULT: 1, PROD: 0}
    assert values["svops_commands_owed"] == {DEFAULT: 0, PROD: 1}
    assert {labels: value for labels, value in values["svops_runs_open"].items() if value} == {
        f"{DEFAULT} running": 1,
        f"{PROD} queued": 1,
        f"{PROD} pending": 1,
    }
    assert values["svops_airflow_age_seconds"][DEFAULT] == pytest.approx(0, abs=60)
    assert values["svops_airflow_age_seconds"][PROD] == pytest.approx(120, abs=60)
    # Of the newest tick.
    assert values["svops_beat_age_seconds"][""] == pytest.approx(0, abs=60)


def test_a_new_database_shows_the_default_one(db: None) -> None:
    Airflow.objects.all().delete()

    values = scraped()

    assert values["svops_airflow_up"] == {DEFAULT: 1}
    assert values["svops_commands_owed"] == {DEFAULT: 0}
    assert str(values["svops_airflow_age_seconds"][DEFAULT]) == "nan"
    assert str(values["svops_beat_age_seconds"][""]) == "nan"


def test_open_runs_of_one_that_nothing_is_asked_of_are_counted(prod: ControlledAirflow, nightly: Workflow) -> None:
    Airflow.objects.filter(name=PROD).update(is_active=False)
    new_run(on_prod(nightly), RunState.RUNNING)

    values = scraped()

    assert values["svops_airflow_up"] == {DEFAULT: 1}
    assert values["svops_runs_open"][f"{PROD} running"] == 1


def test_the_last_push_of_each_listener_shows(prod: ControlledAirflow, db: None) -> None:
    Airflow.default()
    arrivals._redis().delete(arrivals._key(DEFAULT))
    arrivals._noted.clear()
    arrivals.note(PROD, version="3", dropped=7, now=timezone.now() - timedelta(minutes=2))

    values = scraped()

    assert values["svops_listener_dropped"] == {PROD: 7}
    assert values["svops_listener_age_seconds"] == {PROD: pytest.approx(120, abs=60)}
