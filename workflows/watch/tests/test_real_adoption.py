"""Runs that Airflow 3 starts in each way, and runs with dates of their own, against a real one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import requests
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from runner.testing import Served
from runner.versions import is_airflow_2
from workflows import explain, services
from workflows.airflow import AirflowClient
from workflows.models import DataInterval, Run, TriggerType, Workflow
from workflows.tests.real import connect_to, ended, serve, synced, work
from workflows.tests.stage import story

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(is_airflow_2(), reason="the DAGs are for Airflow 3"),
]

DAGS = """
from __future__ import annotations

import datetime
import time

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Asset, task

START = datetime.datetime(2024, 1, 1)
FILES = Asset("adopt_files")


@task
def short():
    # Long enough for a poll to see the run while it is open.
    time.sleep(4)


@task(outlets=[FILES])
def write():
    time.sleep(4)


@task
def show(*moments):
    print("dates: " + " ".join(moments))


with DAG("dates_shown", schedule=None, start_date=START):
    show("{{ ds }}", "{{ data_interval_start | ds }}", "{{ data_interval_end | ds }}")

with DAG("adopt_manual", schedule=None, start_date=START):
    short()

with DAG("adopt_parent", schedule=None, start_date=START):
    TriggerDagRunOperator(task_id="go", trigger_dag_id="adopt_child", conf={"rows": 3}, note="from the parent")

with DAG("adopt_child", schedule=None, start_date=START):
    short()

with DAG("adopt_producer", schedule=None, start_date=START):
    write()

with DAG("adopt_consumer", schedule=[FILES], start_date=START):
    short()

with DAG("adopt_scheduled", schedule="@once", start_date=START, is_paused_upon_creation=True):
    short()

with DAG("adopt_backfill", schedule="@daily", start_date=START, catchup=False, is_paused_upon_creation=True):
    short()
"""
DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An Airflow that has the DAGs above beside the examples."""
    with serve(DAGS, home=tmp_path_factory.mktemp("airflow")) as served:
        yield served


@pytest.fixture
def client(served: Served, settings: Settings) -> Iterator[AirflowClient]:
    with connect_to(served, settings) as client:
        yield client


def workflow_over(dag_id: str, owner: User) -> Workflow:
    return services.create_workflow(owner=owner, dag=synced(dag_id), name=dag_id)


def trigger(workflow: Workflow, **asked: object) -> Run:
    request = services.RunRequest(**asked)  # type: ignore[arg-type]
    return services.trigger_run(workflow=workflow, user=workflow.owner, trigger_type=TriggerType.API, request=request)


def until_found(found: Callable[[], Run | None], *, within: float = 120) -> Run:
    """Work until there is such a run."""
    deadline = time.monotonic() + within
    while True:
        work()
        if run := found():
            return run
        assert time.monotonic() < deadline, list(Run.objects.values("dag_id", "state", "state_reason"))
        time.sleep(0.2)


def adopted(dag_id: str) -> Run:
    """Return the run of the DAG that was started in Airflow, at its end."""
    return ended(until_found(lambda: Run.objects.filter(dag_id=dag_id, trigger_type=TriggerType.EXTERNAL).first()))


def shown(client: AirflowClient, run: Run) -> str:
    lines = client.tasks.log_lines(run.dag_id, run.dag_run_id, "show", try_number=1)
    return next(line.text for line in lines if line.text.startswith("dates:"))


def test_a_dag_gets_the_dates_of_its_trigger(client: AirflowClient, root: User) -> None:
    workflow = workflow_over("dates_shown", root)
    interval = DataInterval(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC))

    plain = ended(trigger(workflow, logical_date=DAY))
    wide = ended(trigger(workflow, logical_date=DAY.replace(day=2), data_interval=interval))

    assert (plain.state, shown(client, plain)) == ("success", "dates: 2026-03-01 2026-03-01 2026-03-01")
    assert (wide.state, shown(client, wide)) == ("success", "dates: 2026-03-02 2026-02-01 2026-02-28")
    assert (plain.logical_date, plain.data_interval) == (DAY, None)
    theirs = client.runs.get(wide.dag_id, wide.dag_run_id)
    assert (theirs.logical_date, theirs.data_interval) == (wide.logical_date, wide.data_interval)


def test_without_a_date_a_template_fails_and_nothing_else_changes(client: AirflowClient, root: User) -> None:
    run = ended(trigger(workflow_over("dates_shown", root)))

    assert (run.state, run.logical_date) == ("failed", None)
    assert client.runs.get(run.dag_id, run.dag_run_id).logical_date is None


def test_a_date_that_another_run_has_fails_the_run_at_once(client: AirflowClient, root: User) -> None:
    workflow = workflow_over("adopt_manual", root)
    first = trigger(workflow, logical_date=DAY)

    second = trigger(workflow, logical_date=DAY)

    reason = "another run of the DAG has the logical date 2026-03-01T00:00:00+00:00"
    assert (second.state, second.state_reason) == ("failed", f"Could not dispatch the run to Airflow: {reason}")
    assert second.commands.get().attempts == 1
    assert ended(first).state == "success"


@pytest.mark.usefixtures("client")
def test_a_run_of_a_date_before_the_start_of_its_dag_succeeds_without_tasks(root: User) -> None:
    run = ended(trigger(workflow_over("dates_shown", root), logical_date=datetime(1, 1, 1, tzinfo=UTC)))

    assert (run.state, run.tasks.count()) == ("success", 0)
    assert story(run) == ["workflow.triggered", "workflow.started", "workflow.completed"]


def test_a_run_of_a_date_in_the_future_waits_for_it_and_says_so(client: AirflowClient, root: User) -> None:
    date = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    run = trigger(workflow_over("dates_shown", root), logical_date=date)
    run = until_found(lambda: Run.objects.filter(pk=run.pk, state="running").first())

    reasons = explain.explain(run, now=timezone.now(), may_retry=True, may_see_logs=True)

    text = "Airflow starts none of its tasks before its logical date, 9999-12-31 23:59:59 UTC."
    assert [(reason.code, reason.reason) for reason in reasons] == [("logical_date", text)]
    services.stop_run(run=run, actor=root)
    assert ended(run).state == "stopped"


def test_a_run_by_hand_has_the_parameters_the_note_and_the_dates_of_airflow(client: AirflowClient, root: User) -> None:
    workflow = workflow_over("adopt_manual", root)
    name = f"by_hand__{uuid.uuid4().hex}"
    date = datetime(2025, 5, 5, 5, tzinfo=UTC)

    client.runs.trigger("adopt_manual", dag_run_id=name, conf={"rows": [1]}, note="by hand", logical_date=date)

    run = adopted("adopt_manual")
    assert (run.dag_run_id, run.workflow, run.state) == (name, workflow, "success")
    assert (run.parameters, run.note, run.logical_date) == ({"rows": [1]}, "by hand", date)
    assert run.data_interval == DataInterval(date, date)


def test_a_note_that_somebody_writes_in_airflow_is_shown(client: AirflowClient, served: Served, root: User) -> None:
    workflow_over("adopt_manual", root)
    name = f"by_hand__{uuid.uuid4().hex}"
    client.runs.trigger("adopt_manual", dag_run_id=name, conf={})
    run = until_found(lambda: Run.objects.filter(dag_run_id=name).first())

    path = f"{served.exports['AIRFLOW_URL']}/api/v2/dags/adopt_manual/dagRuns/{name}"
    requests.patch(path, json={"note": "looked at"}, headers=_signed_in(served), timeout=30).raise_for_status()

    ended(run)
    assert until_found(lambda: Run.objects.filter(pk=run.pk, note="looked at").first())


def test_a_run_that_another_dag_triggers_is_adopted(client: AirflowClient, root: User) -> None:
    workflow_over("adopt_child", root)

    ended(trigger(workflow_over("adopt_parent", root)))

    run = adopted("adopt_child")
    assert (run.state, run.parameters, run.note) == ("success", {"rows": 3}, "from the parent")


def test_a_run_that_an_asset_triggers_is_adopted(client: AirflowClient, root: User) -> None:
    workflow_over("adopt_consumer", root)

    ended(trigger(workflow_over("adopt_producer", root)))

    run = adopted("adopt_consumer")
    assert client.runs.get(run.dag_id, run.dag_run_id).run_type == "asset_triggered"
    assert (run.state, run.parameters, run.user) == ("success", {}, None)


def test_a_scheduled_run_is_adopted(client: AirflowClient, root: User) -> None:
    workflow_over("adopt_scheduled", root)

    client.dags.set_paused("adopt_scheduled", False)

    run = adopted("adopt_scheduled")
    theirs = client.runs.get(run.dag_id, run.dag_run_id)
    assert (theirs.run_type, run.state, run.logical_date) == ("scheduled", "success", theirs.logical_date)
    assert story(run)[:2] == ["workflow.triggered", "workflow.started"]


def test_a_backfill_is_adopted(served: Served, client: AirflowClient, root: User) -> None:
    workflow_over("adopt_backfill", root)
    client.dags.set_paused("adopt_backfill", False)
    day = "2025-06-01T00:00:00Z"

    body = {"dag_id": "adopt_backfill", "from_date": day, "to_date": day, "dag_run_conf": {"rows": 5}}
    url = f"{served.exports['AIRFLOW_URL']}/api/v2/backfills"
    headers, deadline = _signed_in(served), time.monotonic() + 120
    # Airflow on SQLite says "not now" while its scheduler writes.
    while (answer := requests.post(url, json=body, headers=headers, timeout=30)).status_code == 503:
        assert time.monotonic() < deadline, answer.text

    assert answer.status_code == 200, answer.text
    date = datetime(2025, 6, 1, tzinfo=UTC)
    run = ended(until_found(lambda: Run.objects.filter(dag_id="adopt_backfill", logical_date=date).first()))
    assert client.runs.get(run.dag_id, run.dag_run_id).run_type == "backfill"
    assert (run.state, run.parameters, run.trigger_type) == ("success", {"rows": 5}, TriggerType.EXTERNAL)


def _signed_in(served: Served) -> dict[str, str]:
    exports = served.exports
    body = {"username": exports["AIRFLOW_USERNAME"], "password": exports["AIRFLOW_PASSWORD"]}
    answer = requests.post(f"{exports['AIRFLOW_URL']}/auth/token", json=body, timeout=10)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}
