"""The page of a run, and its actions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import messages
from django.test import Client
from django.utils import timezone

from workflows.admin.tests.pages import NOW, act, everything, messages_of, new_run
from workflows.models import (
    Airflow,
    AirflowCommand,
    CommandKind,
    Event,
    Run,
    TaskInstance,
    Workflow,
)
from workflows.states import RunState


def test_the_page_of_a_run_shows_its_tasks_events_and_commands(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, event_count=1)
    TaskInstance.objects.create(run=run, task_id="extract", state="success", try_number=1, operator="PythonOperator")
    Event.objects.create(
        run=run, seq=1, type="task.completed", task_id="extract", timestamp=NOW, data={"map_index": -1}
    )
    AirflowCommand.objects.create(
        run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW, attempts=7, last_error="no <answer>"
    )

    tables = operator.get(f"/admin/workflows/run/{run.pk}/change/").context["run_tables"]

    tasks, log, commands = (table["rows"] for table in tables)
    assert [row[2:4] for row in tasks] == [["1 of 1", "PythonOperator"]]
    assert [(row[0], row[1], row[3], row[4]) for row in log] == [(1, NOW, "extract", '{"map_index": -1}')]
    assert [(row[2], row[4]) for row in commands] == [("7", "no <answer>")]


def test_the_page_of_a_run_escapes_text_of_others(operator: Client, workflow: Workflow) -> None:
    evil = "<script>alert(1)</script>"
    run = new_run(workflow, note=evil, state_reason=evil, task_id=evil, parameters={"p": evil})
    Event.objects.create(run=run, seq=1, type="task.failed", task_id=evil, timestamp=NOW, data={"p": evil})
    TaskInstance.objects.create(run=run, task_id=evil, state=evil[:30])

    for page in [f"run/{run.pk}/change/", "run/", "event/", "taskinstance/"]:
        assert evil not in operator.get(f"/admin/workflows/{page}").content.decode(), page


def poll_airflow(*, ago: timedelta) -> None:
    Airflow.default()
    Airflow.objects.update(reachable=True, looked_at=timezone.now() - ago)


def test_open_runs_are_stale_while_airflow_is_not_polled(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow)
    poll_airflow(ago=timedelta(0))
    fresh = [operator.get(page).content.decode() for page in _pages_of(run)]
    poll_airflow(ago=timedelta(minutes=5))
    stale = [operator.get(page).content.decode() for page in _pages_of(run)]

    assert all(">stale<" not in page and "airflow-warning" not in page for page in fresh)
    assert all(">stale<" in page and "airflow-warning" in page for page in stale)


def test_a_run_that_has_ended_is_not_stale(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, RunState.SUCCESS)
    poll_airflow(ago=timedelta(minutes=5))

    assert all(">stale<" not in operator.get(page).content.decode() for page in _pages_of(run))


def _pages_of(run: Run) -> list[str]:
    return ["/admin/workflows/run/", f"/admin/workflows/run/{run.pk}/change/"]


@pytest.mark.parametrize(
    ("state", "known", "buttons"),
    [
        (RunState.PENDING, False, ["stop"]),
        (RunState.RUNNING, True, ["stop"]),
        (RunState.STOPPING, True, []),
        (RunState.FAILED, True, ["retry_failed", "retry_all"]),
        (RunState.STOPPED, True, ["retry_failed", "retry_all"]),
        (RunState.SUCCESS, True, ["retry_all"]),
        (RunState.STOPPED, False, []),
    ],
)
def test_a_run_offers_the_actions_that_fit_its_state(
    operator: Client, workflow: Workflow, state: RunState, known: bool, buttons: list[str]
) -> None:
    run = new_run(workflow, state, queued_at=NOW if known else None)

    offered = operator.get(f"/admin/workflows/run/{run.pk}/change/").context["run_actions"]

    assert [url for url, _ in offered] == [f"/admin/workflows/run/{run.pk}/act/{name}/" for name in buttons]


def test_a_stop_ends_a_pending_run_at_once(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow, RunState.PENDING)
    AirflowCommand.objects.create(run=run, kind=CommandKind.TRIGGER, created_at=NOW, due_at=NOW)

    assert act(operator, "run", "stop", run) == [(messages.SUCCESS, f"Run {run}: it is stopped now.")]

    run.refresh_from_db()
    assert (run.state, run.state_reason) == ("stopped", "stopped by root")


@pytest.mark.parametrize(
    ("action", "state", "why"),
    [
        ("stop", RunState.SUCCESS, "A run that is success cannot be stopped."),
        ("stop", RunState.STOPPING, "A run that is stopping cannot be stopped."),
        ("retry_failed", RunState.RUNNING, "A run that is running cannot be retried."),
        (
            "retry_failed",
            RunState.SUCCESS,
            "A run that is success cannot be retried with mode failed: nothing has failed.",
        ),
        ("retry_all", RunState.QUEUED, "A run that is queued cannot be retried."),
    ],
)
def test_an_action_that_does_not_fit_the_state_is_a_warning_and_changes_nothing(
    operator: Client, workflow: Workflow, action: str, state: RunState, why: str
) -> None:
    run = new_run(workflow, state)
    before = everything()

    assert act(operator, "run", action, run) == [(messages.WARNING, f"Run {run}: {why}")]
    assert everything() == before


def test_a_refusal_of_one_run_does_not_stop_the_others(operator: Client, workflow: Workflow) -> None:
    Airflow.default()
    Airflow.objects.update(reachable=False, last_error="it is down")
    ended, running = new_run(workflow, RunState.FAILED), new_run(workflow)

    said = dict(text.split(": ", 1)[::-1] for _, text in act(operator, "run", "stop", ended, running))

    later = "it is stopping here, but Airflow does not know yet: it is down. SVOps retries."
    assert said == {"A run that is failed cannot be stopped.": f"Run {ended}", later: f"Run {running}"}


@pytest.mark.parametrize(
    ("action", "before", "after", "kind", "arguments"),
    [
        ("stop", RunState.RUNNING, RunState.STOPPING, "stop", {"by": "root", "note": ""}),
        (
            "retry_failed",
            RunState.FAILED,
            RunState.QUEUED,
            "clear",
            {"task_ids": ["load"], "instances": [], "only_failed": False, "include_downstream": False},
        ),
        (
            "retry_all",
            RunState.SUCCESS,
            RunState.QUEUED,
            "clear",
            {"task_ids": None, "instances": [], "only_failed": False, "include_downstream": False},
        ),
    ],
)
def test_while_airflow_is_down_an_action_is_recorded_and_shows_an_error(
    operator: Client,
    workflow: Workflow,
    action: str,
    before: RunState,
    after: RunState,
    kind: str,
    arguments: dict[str, Any],
) -> None:
    run = new_run(workflow, before)
    run.tasks.create(task_id="load", state="failed")

    response = operator.post(f"/admin/workflows/run/{run.pk}/act/{action}/", follow=True)

    [(level, text)] = messages_of(response)
    assert level == messages.ERROR
    assert text.startswith(f"Run {run}: it is {after} here, but Airflow does not know yet: ")
    assert response.redirect_chain == [(f"/admin/workflows/run/{run.pk}/change/", 302)]
    assert Run.objects.get().state == after
    command = AirflowCommand.objects.get()
    # A retry first asks whether Airflow still has the run. So it knows already that nobody answers.
    attempts = 1 if kind == "stop" else 0
    assert (command.kind, command.arguments, command.attempts, command.finished_at) == (kind, arguments, attempts, None)


@pytest.mark.parametrize("action", ["state", "delete", "each"])
def test_an_action_that_does_not_exist_is_refused(operator: Client, workflow: Workflow, action: str) -> None:
    run = new_run(workflow)

    assert operator.post(f"/admin/workflows/run/{run.pk}/act/{action}/").status_code == 403


def test_a_get_does_not_do_an_action(operator: Client, workflow: Workflow) -> None:
    run = new_run(workflow)

    assert operator.get(f"/admin/workflows/run/{run.pk}/act/stop/").status_code == 405
    assert operator.get("/admin/workflows/dag/sync/").status_code == 405
    assert Run.objects.get().state == RunState.RUNNING


def test_an_action_on_too_many_runs_is_refused(operator: Client, workflow: Workflow) -> None:
    runs = [new_run(workflow) for _ in range(101)]

    assert act(operator, "run", "stop", *runs) == [(messages.ERROR, "Choose at most 100 at once. Nothing has changed.")]
    assert not Run.objects.exclude(state=RunState.RUNNING).exists()
