"""A real Airflow that is stopped and started again while triggers keep coming."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from runner.ports import free_port
from runner.testing import Served
from tests.control.conftest import forget_airflow
from tests.control.load import Callers, nothing_is_pending, outages, run_until, tick
from workflows import gateway, services
from workflows.models import Dag, Run
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.watch import dags

pytestmark = [pytest.mark.airflow, pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

DAG = "simple_workflow_example"


def test_each_trigger_accepted_while_a_real_airflow_is_stopped_and_started_ends_up_there_once(
    tmp_path: Path, settings: Settings, ada: User
) -> None:
    where = {"AIRFLOW_PORT": str(free_port())}
    airflow = Served("airflow", home=tmp_path, env=where)
    for name, value in airflow.exports.items():
        setattr(settings, name, value)
    # On a busy machine it may be slow without being down.
    settings.DISPATCH_BUDGET = settings.AIRFLOW_READ_TIMEOUT = 30.0
    settings.DISPATCH_LEASE = 120.0
    forget_airflow()
    try:
        dags.sync_dags(DEFAULT, now=timezone.now())
        dag = Dag.objects.get(dag_id=DAG)
        workflow = services.create_workflow(owner=ada, dag=dag, name="Real")
        # Created but not run: only the dispatch matters here.
        services.set_dag_paused(dag=dag, paused=True, actor=ada)
        tick()
        with Callers(workflow, ada) as callers:
            run_until(callers.begin(8))
            unnoticed = callers.begin(8)
            airflow.stop()
            run_until(unnoticed)
            run_until(lambda: not gateway.answers(DEFAULT))
            run_until(callers.begin(16))
            during = callers.answers[-8:]
            airflow = Served("airflow", home=tmp_path, env=where)
            run_until(callers.begin(8), within=180)
            run_until(lambda: gateway.answers(DEFAULT), within=180)
        run_until(nothing_is_pending, within=180)

        assert [answer.status for answer in callers.answers] == [201] * 40
        assert {answer.state for answer in during} == {RunState.PENDING}
        runs = {str(run.pk): run for run in Run.objects.all()}
        assert sorted(runs) == sorted(answer.run_id for answer in callers.answers)
        assert {(run.state, run.paused) for run in runs.values()} == {(RunState.QUEUED, True)}
        there = gateway.client_of(DEFAULT).runs.list(dag_ids=[DAG])
        assert sorted(run.dag_run_id for run in there) == sorted(run.dag_run_id for run in runs.values())
        # A real Airflow on SQLite sometimes answers 500 to simultaneous calls. That is recorded as an outage too.
        recorded = outages()
        assert recorded == ["system.airflow_down", "system.airflow_up"] * (len(recorded) // 2)
        assert recorded
    finally:
        airflow.stop()
        forget_airflow()
