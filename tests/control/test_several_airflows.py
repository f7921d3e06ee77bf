"""Two Airflows with the same DAG: what happens in one, or to one, is nothing to the other."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.utils import timezone
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts.models import User
from rest.sealing import seal
from tests.control.load import run_until
from tests.control.staged import Absence, ControlledAirflow
from workflows import gateway, services, tasks, way_in
from workflows.airflow.tests.scripted import run_json
from workflows.dispatch import dispatcher
from workflows.models import Airflow, AirflowCommand, Dag, Event, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import at, iso, new_run, story
from workflows.watch import dags, poll

pytestmark = pytest.mark.django_db(transaction=True)

NORTH = "north"
INGEST_SECRET = "the secret of the north"


class Side(NamedTuple):
    """One of the two: its name, the server, and a workflow over its DAG `etl`."""

    name: str
    server: ControlledAirflow
    workflow: Workflow


Sides = dict[str, Side]


@pytest.fixture(autouse=True)
def _brisk(settings: Settings) -> None:
    settings.DISPATCH_BUDGET = 3.0
    settings.BREAKER_FAILURES = 2
    settings.BREAKER_RESET = 1.0
    settings.AIRFLOW_READ_TIMEOUT = 3.0


@pytest.fixture
def sides(airflow: ControlledAirflow, nightly: Workflow, ada: User) -> Iterator[Sides]:
    with ControlledAirflow() as server:
        connect(server)
        dag = Dag.objects.create(airflow_id=NORTH, dag_id="etl", params_schema=nightly.dag.params_schema)
        far = Workflow.objects.create(name="Far", dag=dag, owner=ada, default_parameters={"rows": 10})
        yield {DEFAULT: Side(DEFAULT, airflow, nightly), NORTH: Side(NORTH, server, far)}
        gateway.breaker(NORTH).close()
        gateway.pooled_client.cache_clear()
        way_in.forget(NORTH)


def connect(server: ControlledAirflow) -> None:
    secrets = {"password": "admin", "ingest_secret": INGEST_SECRET}
    options = {"url": server.url, "username": "admin"}
    Airflow.default()
    Airflow.objects.create(name=NORTH, options=options, secrets=seal(json.dumps(secrets)))
    way_in.forget(NORTH)


def tick_both() -> None:
    for name in (DEFAULT, NORTH):
        poll.tick(name, now=timezone.now())
        dispatcher.dispatch_due(name, now=timezone.now())


def trigger(api: APIClient, side: Side) -> Run:
    answer = api.post(f"/api/v1/workflows/{side.workflow.pk}/runs", {})
    assert answer.status_code == 201, answer.json()
    return Run.objects.get(pk=answer.json()["id"])


def shown(api: APIClient) -> dict[str, tuple[str, bool]]:
    """Return the state of each listed run, and whether it is stale, by its Airflow."""
    return {row["airflow"]: (row["state"], row["stale"]) for row in api.get("/api/v1/runs").json()["results"]}


def outages() -> list[tuple[str, str]]:
    recorded = Event.objects.filter(type__startswith="system.").order_by("id")
    return [(event.type.removeprefix("system.airflow_"), event.data["airflow"]) for event in recorded]


@pytest.mark.parametrize("how", ["refuses", "hangs", "answers 503"])
@pytest.mark.parametrize(("lost", "well"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_while_one_is_away_the_other_works_as_before(
    sides: Sides, api: APIClient, how: Absence, lost: str, well: str
) -> None:
    tick_both()
    with sides[lost].server.away(how):
        while gateway.answers(lost):
            poll.tick(lost, now=timezone.now())
        there, here = trigger(api, sides[lost]), trigger(api, sides[well])
        tick_both()

        assert shown(api) == {lost: (RunState.PENDING, True), well: (RunState.QUEUED, False)}
        assert (sides[lost].server.order, sides[well].server.order) == ([], [here.dag_run_id])
        assert (gateway.answers(well), gateway.breaker_is_closed(well)) == (True, True)
        assert outages() == [("down", lost)]

    run_until(lambda: gateway.answers(DEFAULT))
    while not sides[lost].server.order:
        tick_both()
    assert sides[lost].server.order == [there.dag_run_id]
    assert shown(api) == {lost: (RunState.QUEUED, False), well: (RunState.QUEUED, False)}
    assert outages() == [("down", lost), ("up", lost)]


@pytest.mark.parametrize(("ends", "goes_on"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
@pytest.mark.parametrize("by", ["poll", "push", "sweep"])
def test_runs_of_the_same_name_are_two_runs(
    sides: Sides, api: APIClient, settings: Settings, ends: str, goes_on: str, by: str
) -> None:
    settings.INGEST_SECRET = "the secret of the default one"
    runs = {name: new_run(side.workflow, dag_run_id="scheduled__1") for name, side in sides.items()}
    for name, side in sides.items():
        side.server.put(runs[name], "running", start=1)
    tick_both()
    sides[ends].server.put(runs[ends], "success", start=1, end=3)

    if by == "push":
        assert push(ends, settings.INGEST_SECRET if ends == DEFAULT else INGEST_SECRET, ended("scheduled__1")) == 202
    else:
        Airflow.objects.update(swept_at=None if by == "sweep" else timezone.now())
        tick_both()

    states = {name: Run.objects.get(pk=run.pk).state for name, run in runs.items()}
    assert states == {ends: RunState.SUCCESS, goes_on: RunState.RUNNING}
    assert story(runs[goes_on]) == ["workflow.started"]
    assert [event.data["airflow"] for event in runs[ends].events.all()] == [ends, ends]


def ended(dag_run_id: str) -> dict[str, Any]:
    row = run_json("etl", dag_run_id, state="success", start_date=iso(1), end_date=iso(3))
    return {"kind": "run", "run_type": "manual", **{name: row[name] for name in row if name != "conf"}}


def push(airflow: str, secret: str, *records: dict[str, Any]) -> int:
    return int(answer_to(airflow, secret, *records).status_code)


def answer_to(airflow: str, secret: str, *records: dict[str, Any]) -> Any:
    body = json.dumps({"records": records, "dropped": 0, "version": "2"}).encode()
    sent_at = str(int(timezone.now().timestamp()))
    signature = hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()
    path = "/api/v1/ingest" if airflow == DEFAULT else f"/api/v1/ingest/{airflow}"
    headers = {"X-SVOps-Timestamp": sent_at, "X-SVOps-Signature": signature}
    return APIClient().generic("POST", path, body.decode(), "application/json", headers=headers)


@pytest.mark.parametrize(
    ("to", "signed_with", "status"),
    [
        (DEFAULT, "the secret of the default one", 202),
        (NORTH, INGEST_SECRET, 202),
        (NORTH, "the secret of the default one", 401),
        (DEFAULT, INGEST_SECRET, 401),
        ("nowhere", INGEST_SECRET, 401),
        ("nowhere", "", 401),
    ],
)
@pytest.mark.usefixtures("sides")
def test_each_has_its_own_secret_for_pushes(settings: Settings, to: str, signed_with: str, status: int) -> None:
    settings.INGEST_SECRET = "the secret of the default one"

    answer = answer_to(to, signed_with)

    assert answer.status_code == status
    # Nobody learns which names there are.
    assert status == 202 or answer.json()["detail"] == "The signature does not match."


@pytest.mark.parametrize(("paused", "goes_on"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_a_pause_of_the_dag_in_one_freezes_no_run_in_the_other(
    sides: Sides, ada: User, paused: str, goes_on: str
) -> None:
    runs = {name: new_run(side.workflow, RunState.RUNNING) for name, side in sides.items()}
    for name, side in sides.items():
        side.server.put(runs[name], "running", start=1)

    services.set_dag_paused(dag=sides[paused].workflow.dag, paused=True, actor=ada)
    tick_both()

    assert {name: Run.objects.get(pk=run.pk).paused for name, run in runs.items()} == {paused: True, goes_on: False}
    assert (sides[paused].server.switched, sides[goes_on].server.switched) == ([("etl", True)], [])


@pytest.mark.parametrize(("changed", "kept"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_a_dag_that_is_gone_from_one_stays_in_the_other(sides: Sides, changed: str, kept: str) -> None:
    del sides[changed].server.dags["etl"]
    for name in sides:
        dags.sync_dags(name, now=timezone.now())

    present = {dag.airflow_name: dag.is_present for dag in Dag.objects.filter(dag_id="etl")}
    assert present == {changed: False, kept: True}


@pytest.mark.parametrize(("hiding", "showing"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_a_right_that_is_missing_in_one_hides_nothing_of_the_other(
    sides: Sides, api: APIClient, hiding: str, showing: str
) -> None:
    for side in sides.values():
        side.server.put(new_run(side.workflow, RunState.RUNNING, started_at=at(1)), "running", start=1)
    tick_both()
    Airflow.objects.filter(name=hiding).update(hidden_dags=["etl"])

    assert shown(api) == {hiding: (RunState.RUNNING, True), showing: (RunState.RUNNING, False)}


@pytest.mark.parametrize(("deleted", "kept"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_a_run_that_was_deleted_in_one_goes_on_in_the_other(sides: Sides, deleted: str, kept: str) -> None:
    runs = {name: new_run(side.workflow, dag_run_id="manual__1") for name, side in sides.items()}
    sides[kept].server.put(runs[kept], "running", start=1)
    Airflow.objects.update(swept_at=None)

    tick_both()

    states = {name: Run.objects.get(pk=run.pk).state for name, run in runs.items()}
    assert states == {deleted: RunState.FAILED, kept: RunState.RUNNING}


@pytest.mark.parametrize(("of", "other"), [(DEFAULT, NORTH), (NORTH, DEFAULT)])
def test_a_run_started_in_airflow_is_adopted_by_a_workflow_there(sides: Sides, of: str, other: str) -> None:
    tick_both()
    sides[of].server.put(new_run(sides[other].workflow, dag_run_id="manual__2"), "running", start=1)
    Run.objects.all().delete()

    tick_both()

    [adopted] = Run.objects.all()
    assert (adopted.airflow_name, adopted.workflow, adopted.trigger_type) == (of, sides[of].workflow, "external")


def test_a_stop_goes_to_where_the_run_is_also_after_its_workflow_has_moved(
    sides: Sides, api: APIClient, ada: User
) -> None:
    run = trigger(api, sides[NORTH])
    sides[NORTH].server.put(run, "running", start=1)
    tick_both()
    Workflow.objects.filter(pk=sides[NORTH].workflow.pk).update(dag=sides[DEFAULT].workflow.dag)

    tick_both()  # it is still watched there
    services.stop_run(run=Run.objects.select_related("workflow__dag").get(pk=run.pk), actor=ada)
    sides[NORTH].server.put(run, "failed", start=1, end=2)
    tick_both()

    assert sides[NORTH].server.marked == [(run.dag_run_id, "failed")]
    assert sides[DEFAULT].server.marked == []
    assert Run.objects.get(pk=run.pk).state == RunState.STOPPED


def test_an_airflow_whose_way_in_cannot_be_read_is_away_and_nothing_is_lost(sides: Sides, api: APIClient) -> None:
    Airflow.objects.filter(name=NORTH).update(secrets="what an old key has sealed")
    way_in.forget(NORTH)

    there, here = trigger(api, sides[NORTH]), trigger(api, sides[DEFAULT])
    tick_both()

    assert shown(api) == {NORTH: (RunState.PENDING, True), DEFAULT: (RunState.QUEUED, False)}
    assert outages() == [("down", NORTH)]
    pending = AirflowCommand.objects.get(run=there, finished_at=None)
    assert pending.airflow_name == NORTH
    assert sides[DEFAULT].server.order == [here.dag_run_id]


@pytest.mark.parametrize("name", [DEFAULT, NORTH])
def test_nothing_is_asked_of_an_airflow_that_is_not_active_and_that_is_no_outage(
    sides: Sides, api: APIClient, ada: User, name: str
) -> None:
    run = trigger(api, sides[name])
    Airflow.objects.filter(name=name).update(is_active=False)
    way_in.forget(name)
    asked = len(sides[name].server.requests)

    refused = api.post(f"/api/v1/workflows/{sides[name].workflow.pk}/runs", {})
    services.stop_run(run=run, actor=ada)
    told = api.get(f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/explain").json()["reasons"]
    for task in (tasks.reconcile, tasks.dispatch, tasks.sync_dags):
        task(name)

    assert (refused.status_code, refused.json()["code"]) == (409, "workflow_inactive")
    assert "airflow_inactive" in [reason["code"] for reason in told]
    assert len(sides[name].server.requests) == asked
    assert outages() == []
    assert AirflowCommand.objects.filter(run=run, finished_at=None, kind="stop").exists()
