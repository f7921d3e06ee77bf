"""Which workflow gets a run that was started in Airflow itself, and what the run shows."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from workflows import gateway
from workflows.airflow import types
from workflows.airflow.tests.scripted import HangUp, run_json
from workflows.models import Airflow, Dag, Event, Run, TriggerType, Visibility, Workflow
from workflows.naming import DEFAULT
from workflows.tests.stage import NOW, StagedAirflow, at, iso, new_run, story
from workflows.watch import poll
from workflows.watch.adoption import adopters
from workflows.watch.apply import apply

pytestmark = pytest.mark.django_db

RUN_TYPES = ["manual", "scheduled", "backfill", "asset_triggered", "asset_materialization", "dataset_triggered", "soon"]


def theirs(name: str = "manual__1", **fields: Any) -> dict[str, Any]:
    return run_json("etl", name, **{"state": "running", "start_date": iso(1), **fields})


def pushed(name: str = "manual__1", state: str = "running") -> types.DagRun:
    """Return what a push shows of a run: no conf, no note, no dates of its data."""
    fields = theirs(name, state=state, conf={}, note=None, queued_at=None)
    return types.DagRun.parse(fields)


def shows(airflow: StagedAirflow, *runs: dict[str, Any]) -> None:
    airflow.runs.update({(run["dag_id"], run["dag_run_id"]): run for run in runs})


def tick() -> None:
    gateway.breaker(DEFAULT).close()
    assert poll.tick(DEFAULT, now=timezone.now())


def push(*runs: types.DagRun) -> None:
    apply(gateway.client_of(DEFAULT), runs=runs, tasks=[], at=NOW, pushed=True)


def test_a_run_of_the_doctor_is_nobodys(airflow: StagedAirflow, nightly: Workflow) -> None:
    shows(airflow, theirs("svops_doctor__1"), theirs("manual__1"))

    tick()
    push(pushed("svops_doctor__2"))

    assert list(Run.objects.values_list("dag_run_id", flat=True)) == ["manual__1"]


# --- which workflow ---------------------------------------------------------------------------------------------


def name_of_adopter() -> str | None:
    workflow = adopters(DEFAULT, {"etl"}).get("etl")
    return workflow.name if workflow else None


@pytest.mark.parametrize(
    ("workflows", "adopter"),
    [
        ({}, None),
        ({"old": {}, "new": {}}, "old"),
        ({"old": {"is_active": False}, "new": {}}, "new"),
        ({"old": {"deleted_at": NOW}, "new": {}}, "new"),
        ({"old": {"is_active": False}}, None),
        ({"old": {"visibility": Visibility.PRIVATE}}, None),
        ({"old": {"visibility": Visibility.PRIVATE}, "new": {}}, None),
        ({"old": {}, "new": {"visibility": Visibility.PRIVATE}}, None),
        ({"old": {}, "new": {"visibility": Visibility.PRIVATE, "deleted_at": NOW}}, "old"),
        ({"old": {}, "new": {"adopts_airflow_runs": True}}, "new"),
        ({"old": {}, "new": {"adopts_airflow_runs": True, "visibility": Visibility.PRIVATE}}, "new"),
        ({"old": {}, "new": {"adopts_airflow_runs": True, "is_active": False}}, "new"),
        ({"old": {}, "new": {"adopts_airflow_runs": True, "deleted_at": NOW}}, "old"),
        ({"old": {"visibility": Visibility.PRIVATE}, "new": {"adopts_airflow_runs": True}}, "new"),
    ],
)
def test_one_rule_says_which_workflow_adopts(
    etl: Dag, ada: User, workflows: dict[str, dict[str, Any]], adopter: str | None
) -> None:
    for name, fields in workflows.items():
        Workflow.objects.create(name=name, dag=etl, owner=ada, **fields)

    assert name_of_adopter() == adopter
    etl.is_paused = True
    etl.save()
    assert name_of_adopter() == adopter


def test_each_dag_has_its_own_adopter(etl: Dag, ada: User) -> None:
    other = Dag.objects.create(dag_id="other")
    mine = Workflow.objects.create(name="mine", dag=etl, owner=ada)
    chosen = Workflow.objects.create(name="chosen", dag=other, owner=ada, adopts_airflow_runs=True)

    assert adopters(DEFAULT, {"etl", "other", "unknown"}) == {"etl": mine, "other": chosen}


def test_a_private_workflow_gets_no_run_by_accident(airflow: StagedAirflow, secret: Workflow) -> None:
    shows(airflow, theirs(conf={"password": "x"}))

    tick()
    push(pushed())

    assert (Run.objects.count(), Event.objects.count()) == (0, 0)
    assert ("GET", "/dags/etl/dagRuns/manual__1") not in airflow.calls


# --- what the run shows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_type", RUN_TYPES)
def test_a_run_of_each_type_is_adopted_with_what_airflow_knows(
    airflow: StagedAirflow, nightly: Workflow, run_type: str
) -> None:
    dates: dict[str, Any] = {"logical_date": iso(-60), "data_interval_start": iso(-120), "data_interval_end": iso(-60)}
    shows(airflow, theirs(run_type=run_type, conf={"rows": 3}, note="by hand", **dates))

    tick()

    run = Run.objects.get()
    assert (run.workflow, run.trigger_type, run.user) == (nightly, TriggerType.EXTERNAL, None)
    assert (run.parameters, run.note) == ({"rows": 3}, "by hand")
    assert (run.logical_date, run.data_interval) == (at(-60), (at(-120), at(-60)))
    assert story(run) == ["workflow.triggered", "workflow.started"]
    assert run.events.get(seq=1).data["note"] == "by hand"


def test_a_run_in_a_state_of_a_later_airflow_is_adopted(airflow: StagedAirflow, nightly: Workflow) -> None:
    shows(airflow, theirs(state="rehearsing"))

    push(pushed(state="rehearsing"))

    assert Run.objects.get().state == "running"


def test_a_pushed_run_is_read_from_airflow_once(airflow: StagedAirflow, nightly: Workflow) -> None:
    shows(airflow, theirs(conf={"rows": 3}, note="by hand"))

    push(pushed())
    push(pushed())

    run = Run.objects.get()
    assert (run.parameters, run.note, run.state) == ({"rows": 3}, "by hand", "running")
    assert run.events.get(seq=1).data["note"] == "by hand"
    assert story(run) == ["workflow.triggered", "workflow.started"]
    assert airflow.calls == [("GET", "/dags/etl/dagRuns/manual__1")]


def test_a_pushed_run_that_airflow_does_not_show_yet_waits_for_a_poll(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    push(pushed())
    assert Run.objects.count() == 0

    shows(airflow, theirs(conf={"rows": 3}))
    tick()

    assert Run.objects.get().parameters == {"rows": 3}


def test_a_push_while_airflow_does_not_answer_adopts_nothing_and_harms_no_other_run(
    airflow: StagedAirflow, nightly: Workflow
) -> None:
    ours = new_run(nightly)
    # The client repeats a read once.
    airflow.next_api_calls.extend([HangUp(after_doing_it=False), HangUp(after_doing_it=False)])

    push(pushed("manual__1"), pushed(ours.dag_run_id))

    assert [(run.pk, run.state) for run in Run.objects.all()] == [(ours.pk, "running")]


def test_while_airflow_is_known_to_be_down_a_push_does_not_ask_it(airflow: StagedAirflow, nightly: Workflow) -> None:
    Airflow.default()
    Airflow.objects.update(reachable=False)

    push(pushed())

    assert (Run.objects.count(), airflow.requests) == (0, [])


def test_one_push_reads_a_bounded_number_of_runs(airflow: StagedAirflow, nightly: Workflow) -> None:
    names = [f"scheduled__{number}" for number in range(50)]
    shows(airflow, *(theirs(name) for name in names))

    push(*(pushed(name) for name in names))
    assert Run.objects.count() == 20

    tick()
    assert Run.objects.count() == 50


def test_a_look_completes_an_adopted_run_and_leaves_ours_alone(airflow: StagedAirflow, nightly: Workflow) -> None:
    shows(airflow, theirs(conf={"rows": 3}, note=None), theirs("svops__1", conf={"svops": {}}))
    ours = Run.objects.create(
        workflow=nightly, dag_id="etl", dag_run_id="svops__1", state="running", created_at=NOW, parameters={"rows": 9}
    )
    tick()
    # As an earlier version has stored it.
    Run.objects.filter(dag_run_id="manual__1").update(parameters={}, note="")
    shows(airflow, theirs(conf={"rows": 3}, note="looked at"))

    tick()

    run = Run.objects.get(dag_run_id="manual__1")
    assert (run.parameters, run.note) == ({"rows": 3}, "looked at")
    ours.refresh_from_db()
    assert (ours.parameters, ours.note) == ({"rows": 9}, "")
    assert story(run) == ["workflow.triggered", "workflow.started"]


def test_a_conf_that_no_database_stores_is_adopted_with_replacements(airflow: StagedAirflow, nightly: Workflow) -> None:
    shows(airflow, theirs(conf={"a\x00": ["\ud800", float("nan"), float("-inf"), 1.5]}, note="\x00"))

    tick()
    tick()

    run = Run.objects.get()
    assert run.parameters == {"a�": ["�", "NaN", "-Infinity", 1.5]}
    assert run.note == "�"
