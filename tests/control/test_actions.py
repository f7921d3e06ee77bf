"""Each control action in each state a run can be in: its exact answer, and what it changes here and in Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.db.models import Model
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import User
from tests.control.staged import ControlledAirflow
from workflows.airflow.tests.scripted import HangUp
from workflows.dispatch import dispatcher
from workflows.eventlog import publication
from workflows.lifecycle import moves
from workflows.models import Airflow, AirflowCommand, Dag, Event, Run, RunAttempt, TaskInstance, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import NOW, at, new_run, story
from workflows.watch import dags, poll

pytestmark = pytest.mark.django_db

ACTIONS: dict[str, dict[str, Any]] = {
    "stop": {"action": "stop"},
    "retry": {"action": "retry"},
    "retry all": {"action": "retry", "mode": "all"},
    "retry from": {"action": "retry", "mode": "from_task", "from_task": "transform"},
    "retry dry": {"action": "retry", "dry_run": True},
    "retry all dry": {"action": "retry", "mode": "all", "dry_run": True},
    "pause": {"action": "pause"},
    "pause workflow": {"action": "pause", "scope": "workflow"},
    "resume": {"action": "resume"},
}


class Stage(NamedTuple):
    """The place in which a run is brought into a state."""

    airflow: ControlledAirflow
    workflow: Workflow
    api: APIClient

    def trigger(self, **body: Any) -> Run:
        answer = self.api.post(f"/api/v1/workflows/{self.workflow.pk}/runs", body)
        assert answer.status_code == 201
        return Run.objects.get(pk=answer.json()["id"])

    def control(self, run: Run, action: str) -> tuple[int, dict[str, Any]]:
        path = f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/control"
        answer = self.api.post(path, ACTIONS[action])
        return answer.status_code, answer.json()

    def run(self, state: RunState, **tasks: str) -> Run:
        """Create a run that Airflow has, with these tasks."""
        has_ended = state not in {RunState.QUEUED, RunState.RUNNING}
        run = new_run(self.workflow, state, started_at=NOW, ended_at=at(9) if has_ended else None)
        in_airflow = "failed" if state == RunState.STOPPED else state.value
        self.airflow.put(run, in_airflow, start=0, end=9 if has_ended else None)
        for task_id, task_state in tasks.items():
            self.airflow.put_task(run, task_id, task_state, start=0)
            TaskInstance.objects.create(run=run, task_id=task_id, state=task_state, try_number=1, receipt_try=1)
        return run

    def reachable(self, reachable: bool) -> None:
        Airflow.objects.update_or_create(pk=1, defaults={"reachable": reachable})


@pytest.fixture
def stage(airflow: ControlledAirflow, nightly: Workflow, api: APIClient) -> Stage:
    return Stage(airflow, nightly, api)


# --- How a run comes into each state -----------------------------------------------------------------------


def pending(stage: Stage) -> Run:
    """Airflow is known not to answer."""
    stage.reachable(False)
    return stage.trigger()


def held(stage: Stage) -> Run:
    run = pending(stage)
    assert stage.control(run, "pause")[0] == 200
    stage.reachable(True)
    return run


def delayed(stage: Stage) -> Run:
    return stage.trigger(run_at=(timezone.now() + timedelta(hours=1)).isoformat())


def queued(stage: Stage) -> Run:
    return stage.trigger()


def running(stage: Stage) -> Run:
    return stage.run(RunState.RUNNING, extract="success", transform="running")


def frozen(stage: Stage) -> Run:
    run = running(stage)
    assert stage.control(run, "pause")[0] == 200
    return run


def stopping(stage: Stage) -> Run:
    run = running(stage)
    assert stage.control(run, "stop")[0] == 200
    return run


def success(stage: Stage) -> Run:
    return stage.run(RunState.SUCCESS, extract="success", transform="success", load="success")


def failed(stage: Stage) -> Run:
    return stage.run(RunState.FAILED, extract="success", transform="failed", load="upstream_failed")


def never_dispatched(stage: Stage) -> Run:
    run = new_run(stage.workflow, RunState.FAILED, ended_at=at(9))
    Run.objects.filter(pk=run.pk).update(queued_at=None)
    return run


def stopped(stage: Stage) -> Run:
    return stage.run(RunState.STOPPED, extract="success", transform="failed", load="skipped")


STATES: dict[str, Callable[[Stage], Run]] = {
    make.__name__: make
    for make in (
        pending, held, delayed, queued, running, frozen, stopping, success, failed, never_dispatched, stopped
    )
}  # fmt: skip


# --- What is to be answered --------------------------------------------------------------------------------


class Done(NamedTuple):
    """The state afterwards, the recorded events, and the changes in Airflow."""

    state: str
    recorded: list[str]
    asked: list[str]
    paused: bool = False
    pausing: bool = False
    attempt: int = 1


STOPPED = Done("stopped", ["workflow.stopped"], [])
STOPPING = Done("stopping", [], ["mark failed"])
HELD = Done("pending", ["workflow.paused"], [], paused=True)
AGAIN = Done("queued", ["workflow.retried"], ["clear load, transform"], attempt=2)
AGAIN_ALL = AGAIN._replace(asked=["clear all"])
UNFINISHED = [{"task_id": task_id, "map_index": -1} for task_id in ("load", "transform")]
EVERY = [{"task_id": task_id, "map_index": -1} for task_id in ("extract", "load", "transform")]

ACCEPTED: dict[tuple[str, str], Done | list[dict[str, Any]]] = {
    ("pending", "stop"): STOPPED,
    ("pending", "pause"): HELD,
    ("pending", "pause workflow"): HELD,
    ("held", "stop"): STOPPED,
    ("held", "resume"): Done("queued", ["workflow.resumed"], ["trigger"]),
    ("delayed", "stop"): STOPPED,
    ("delayed", "pause"): HELD,
    ("delayed", "pause workflow"): HELD,
    ("queued", "stop"): STOPPING,
    ("queued", "pause"): Done("queued", ["workflow.paused"], ["pause etl"], paused=True),
    ("queued", "pause workflow"): Done("queued", ["workflow.paused"], ["pause etl"], paused=True),
    ("running", "stop"): STOPPING,
    # A task of it is at work: until that has ended, the run is not paused.
    ("running", "pause"): Done("running", ["workflow.paused"], ["pause etl"], pausing=True),
    ("running", "pause workflow"): Done("running", ["workflow.paused"], ["pause etl"], pausing=True),
    ("frozen", "stop"): STOPPING,
    ("frozen", "resume"): Done("running", ["workflow.resumed"], ["unpause etl"]),
    ("success", "retry all"): AGAIN_ALL,
    ("success", "retry from"): AGAIN,
    ("success", "retry all dry"): EVERY,
    ("failed", "retry"): AGAIN,
    ("failed", "retry all"): AGAIN_ALL,
    ("failed", "retry from"): AGAIN,
    ("failed", "retry dry"): UNFINISHED,
    ("failed", "retry all dry"): EVERY,
    ("stopped", "retry"): AGAIN,
    ("stopped", "retry all"): AGAIN_ALL,
    ("stopped", "retry from"): AGAIN,
    ("stopped", "retry dry"): UNFINISHED,
    ("stopped", "retry all dry"): EVERY,
}  # fmt: skip

# Every other action is refused, with this text.
WORDS = {"stop": "stopped", "retry": "retried", "pause": "paused", "resume": "resumed: it is not paused"}
OTHER_WORDS = {
    ("held", "pause"): "paused: it is paused already",
    ("held", "pause workflow"): "paused: it is paused already",
    ("frozen", "pause"): "paused: it is pausing already",
    ("frozen", "pause workflow"): "paused: it is pausing already",
    ("success", "retry"): "retried with mode failed: nothing has failed",
    ("success", "retry dry"): "retried with mode failed: nothing has failed",
    **{
        ("never_dispatched", action): "retried because Airflow never had it"
        for action in ("retry", "retry all", "retry from", "retry dry", "retry all dry")
    },
}
REFUSED = [(state, action) for state in STATES for action in ACTIONS if (state, action) not in ACCEPTED]


def rows() -> dict[str, list[dict[str, Any]]]:
    """Return everything that an action could change here."""
    models: tuple[type[Model], ...] = (Run, RunAttempt, TaskInstance, Event, AirflowCommand, Dag, Workflow)
    return {model.__name__: list(model._default_manager.order_by("pk").values()) for model in models}


def test_the_table_has_an_answer_for_each_action_in_each_state() -> None:
    assert len(STATES) * len(ACTIONS) == len(ACCEPTED) + len(REFUSED) == 99
    assert {state for state, _ in ACCEPTED} | {state for state, _ in REFUSED} == set(STATES)


@pytest.mark.parametrize(("state", "action"), ACCEPTED)
def test_an_action_that_fits_the_state_does_just_this(stage: Stage, state: str, action: str) -> None:
    run = STATES[state](stage)
    before, asked, known = rows(), len(stage.airflow.changes), len(story(run))
    expected = ACCEPTED[state, action]

    status, answer = stage.control(run, action)

    assert status == 200
    if isinstance(expected, list):
        assert answer == {"would_run": expected}
        assert (rows(), len(stage.airflow.changes)) == (before, asked)
        return
    run.refresh_from_db()
    shown = (answer["paused"], answer["pausing"], answer["attempt"])
    assert Done(answer["state"], story(run)[known:], stage.airflow.changes[asked:], *shown) == expected
    is_marked = expected.paused or expected.pausing
    assert (run.state, run.paused, run.attempt) == (expected.state, is_marked, expected.attempt)
    # No command is left, except those that wait on purpose.
    waiting = AirflowCommand.objects.filter(finished_at__isnull=True)
    assert waiting.count() == (expected.state == "pending")


@pytest.mark.parametrize(("state", "action"), REFUSED)
def test_an_action_that_does_not_fit_the_state_is_refused_and_changes_nothing(
    stage: Stage, state: str, action: str
) -> None:
    run = STATES[state](stage)
    run.refresh_from_db()
    before, asked = rows(), len(stage.airflow.requests)
    word = OTHER_WORDS.get((state, action), WORDS[ACTIONS[action]["action"]])

    status, answer = stage.control(run, action)

    assert status == 409
    request_id = answer.pop("request_id")
    assert answer == {
        "code": "wrong_state",
        "detail": f"A run that is {run.state} cannot be {word}.",
        "state": run.state,
        "paused": run.is_paused,
        "run_id": str(run.pk),
    }
    assert request_id
    assert rows() == before
    assert len(stage.airflow.requests) == asked


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": "kill"}, "action"),
        ({"action": "stop", "mode": "all"}, "mode"),
        ({"action": "stop", "scope": "workflow"}, "scope"),
        ({"action": "pause", "dry_run": True}, "dry_run"),
        ({"action": "retry", "mode": "some"}, "mode"),
        ({"action": "retry", "mode": "from_task"}, "from_task"),
        ({"action": "retry", "from_task": "load"}, "from_task"),
        ({"action": "retry", "mode": "from_task", "from_task": "nope"}, "from_task"),
        ({"action": "pause", "scope": "all"}, "scope"),
        ({"action": "stop", "reason": "x"}, "reason"),
    ],
    ids=str,
)
def test_an_invalid_action_is_400_and_changes_nothing(stage: Stage, body: dict[str, Any], field: str) -> None:
    run = failed(stage)
    before, asked = rows(), len(stage.airflow.requests)

    answer = stage.api.post(f"/api/v1/workflows/{run.workflow_id}/runs/{run.pk}/control", body)

    assert (answer.status_code, answer.json()["code"], list(answer.json()["errors"])) == (400, "invalid", [field])
    assert (rows(), len(stage.airflow.requests)) == (before, asked)


# --- What freezes with a DAG -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_pause_that_would_freeze_others_is_refused_with_their_list_unless_it_is_asked_for(
    stage: Stage, state: str
) -> None:
    run, other = STATES[state](stage), running(stage)
    stopping(stage)
    before, asked = rows(), len(stage.airflow.requests)

    status, answer = stage.control(run, "pause")

    assert (status, answer["code"], answer["other_runs"]) == (409, "would_freeze_others", 1)
    assert answer["runs"] == [{"run_id": str(other.pk), "workflow_id": other.workflow_id, "state": "running"}]
    assert (rows(), len(stage.airflow.requests)) == (before, asked)

    status, answer = stage.control(run, "pause workflow")

    assert (status, answer["paused"] or answer["pausing"]) == (200, True)
    other.refresh_from_db()
    assert (other.paused, story(other)) == (True, ["workflow.paused"])
    assert stage.airflow.changes[-1] == "pause etl"


def test_a_dag_with_hidden_runs_of_others_is_not_paused(stage: Stage, eve: User, etl: Dag, ada: User) -> None:
    hidden = Workflow.objects.create(name="Hidden", dag=etl, owner=eve, visibility="private")
    other = new_run(hidden, RunState.RUNNING)
    run = running(stage)

    status, answer = stage.control(run, "pause")

    assert (status, answer["code"]) == (403, "permission_denied")
    assert (story(other), "pause etl" in stage.airflow.changes) == ([], False)


def switch(stage: Stage, word: str) -> tuple[int, bool]:
    answer = stage.api.post(f"/api/v1/workflows/{stage.workflow.pk}/{word}", {})
    return answer.status_code, answer.json()["is_paused"]


def test_pausing_a_workflow_freezes_its_started_runs_and_resuming_it_undoes_exactly_that(stage: Stage) -> None:
    runs = {name: STATES[name](stage) for name in ("held", "delayed", "running", "stopping", "success", "failed")}
    runs["queued"] = queued(stage)
    recorded = {name: story(run) for name, run in runs.items()}
    changes = len(stage.airflow.changes)

    assert switch(stage, "pause") == (200, True)
    assert stage.airflow.changes[changes:] == ["pause etl"]
    frozen = {name for name, run in runs.items() if Run.objects.get(pk=run.pk).paused}
    assert frozen == {"held", "running", "queued"}
    before = rows()
    assert switch(stage, "pause") == (200, True)
    assert (rows(), stage.airflow.changes[changes:]) == (before, ["pause etl"])

    assert switch(stage, "resume") == (200, False)
    assert stage.airflow.changes[changes:] == ["pause etl", "unpause etl"]
    assert [name for name, run in runs.items() if Run.objects.get(pk=run.pk).paused] == ["held"]
    before = rows()
    assert switch(stage, "resume") == (200, False)
    assert (rows(), stage.airflow.changes[changes:]) == (before, ["pause etl", "unpause etl"])

    new = {name: story(run)[len(recorded[name]) :] for name, run in runs.items()}
    both = ["workflow.paused", "workflow.resumed"]
    assert new == {name: both if name in {"running", "queued"} else [] for name in runs}


def test_a_pause_of_a_dag_without_runs_is_sent_to_the_streams(stage: Stage) -> None:
    def recorded() -> list[tuple[str, dict[str, Any]]]:
        publication.publish()
        of_dag = Event.objects.filter(type__startswith="dag.", position__gt=before).order_by("position")
        return list(of_dag.values_list("type", "data"))

    dags.sync_dags(DEFAULT, now=timezone.now())
    publication.publish()
    before = publication.head()

    switch(stage, "pause")
    switch(stage, "pause")
    dags.sync_dags(DEFAULT, now=timezone.now())

    changed = ("dag.synced", {"airflow": "default", "dag_id": "etl", "changed": ["is_paused"]})
    assert recorded() == [changed]
    switch(stage, "resume")
    assert recorded() == [changed, changed]


def test_a_run_triggered_while_its_dag_is_paused_is_paused_and_freed_with_the_others(stage: Stage) -> None:
    switch(stage, "pause")

    run = stage.trigger()

    assert (run.state, run.paused, story(run)) == ("queued", True, ["workflow.triggered", "workflow.paused"])
    assert stage.control(run, "resume")[1]["paused"] is False
    assert story(run) == ["workflow.triggered", "workflow.paused", "workflow.resumed"]


def test_a_run_retried_while_its_dag_is_paused_is_paused(stage: Stage) -> None:
    run = failed(stage)
    switch(stage, "pause")

    status, answer = stage.control(run, "retry")

    assert (status, answer["state"], answer["paused"]) == (200, "queued", True)
    assert story(run) == ["workflow.retried", "workflow.paused"]


def test_a_run_started_or_cleared_in_airflow_while_its_dag_is_paused_is_paused(stage: Stage) -> None:
    run = failed(stage)
    switch(stage, "pause")
    now = timezone.now()
    stage.airflow.runs["etl", "manual__1"] = {**stage.airflow.runs["etl", run.dag_run_id], "dag_run_id": "manual__1"}
    for key in (("etl", "manual__1"), ("etl", run.dag_run_id)):
        stage.airflow.runs[key] |= {"state": "queued", "start_date": None, "end_date": None}

    assert poll.tick(DEFAULT, now=now)

    run.refresh_from_db()
    assert (run.state, run.paused) == ("queued", True)
    assert story(run) == ["workflow.external_change cleared", "workflow.paused"]
    foreign = Run.objects.get(dag_run_id="manual__1")
    assert (foreign.state, foreign.paused) == ("queued", True)
    assert story(foreign) == ["workflow.triggered", "workflow.paused"]


def test_a_pause_and_a_resume_in_airflow_are_recorded_for_each_frozen_run(stage: Stage) -> None:
    dags.sync_dags(DEFAULT, now=timezone.now())
    runs = {name: STATES[name](stage) for name in ("delayed", "queued", "running", "stopping", "failed")}
    recorded = {name: story(run) for name, run in runs.items()}

    for paused, word in ((True, "paused"), (False, "resumed")):
        for part in ("listed", "details"):
            stage.airflow.dags["etl"][part]["is_paused"] = paused
        for _ in range(2):
            dags.sync_dags(DEFAULT, now=timezone.now())

        new = {name: story(run)[len(recorded[name]) :] for name, run in runs.items()}
        frozen = {"queued", "running"}
        assert new == {name: [f"workflow.{word}"] if name in frozen else [] for name in runs}
        assert {name for name, run in runs.items() if Run.objects.get(pk=run.pk).paused} == (
            frozen if paused else set()
        )
        assert runs["running"].events.get(type=f"workflow.{word}").data["by"] == "Airflow"
        recorded = {name: story(run) for name, run in runs.items()}
    assert not stage.airflow.switched


def test_a_stop_ends_a_pause_and_the_other_frozen_runs_stay_frozen(stage: Stage) -> None:
    run, other = running(stage), running(stage)
    assert stage.control(run, "pause workflow")[0] == 200

    status, answer = stage.control(run, "stop")

    assert (status, answer["state"], answer["paused"]) == (200, "stopping", False)
    other.refresh_from_db()
    assert other.paused
    assert moves.finish_stop(Run.objects.get(pk=run.pk), at=timezone.now())


def test_a_held_run_that_airflow_may_have_after_all_is_stopped_there_too(stage: Stage) -> None:
    """Its first dispatch got no answer, although Airflow has started it."""
    stage.airflow.next_api_calls.append(HangUp(after_doing_it=True))
    run = stage.trigger()
    assert (run.state, stage.airflow.order) == ("pending", [run.dag_run_id])
    assert stage.control(run, "pause")[1]["paused"] is True
    stage.reachable(True)

    status, answer = stage.control(run, "stop")

    assert (status, answer["state"], answer["paused"]) == (200, "stopping", False)
    dispatcher.dispatch_due(DEFAULT, now=timezone.now() + timedelta(minutes=2))
    assert stage.airflow.runs[run.dag_id, run.dag_run_id]["state"] == "failed"
    assert poll.tick(DEFAULT, now=timezone.now())
    run.refresh_from_db()
    assert (run.state, story(run)[-1]) == ("stopped", "workflow.stopped")


def test_a_retry_that_got_no_answer_is_not_run_twice_though_it_was_quick(stage: Stage) -> None:
    run = failed(stage)
    stage.airflow.next_api_calls.append(HangUp(after_doing_it=True))
    status, answer = stage.control(run, "retry all")
    assert (status, answer["state"], answer["attempt"]) == (200, "queued", 2)
    assert len(stage.airflow.cleared) == 1
    # It is cleared, runs and ends again before anybody asks for its state.
    stage.airflow.put(run, "failed", start=20, end=25)
    for task_id in ("extract", "transform", "load"):
        stage.airflow.put_task(run, task_id, "failed", tries=2, start=21, end=24)
    stage.reachable(True)

    dispatcher.dispatch_due(DEFAULT, now=timezone.now() + timedelta(minutes=2))

    assert len(stage.airflow.cleared) == 1
    assert poll.tick(DEFAULT, now=timezone.now())
    run.refresh_from_db()
    assert (run.state, run.attempt, run.started_at, run.ended_at) == ("failed", 2, at(20), at(25))
