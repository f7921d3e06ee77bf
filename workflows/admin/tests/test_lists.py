"""Search and filters of the lists."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.admin import ModelAdmin, site
from django.test import Client

from accounts.models import User
from workflows.admin.runs import RunAdmin
from workflows.admin.tests.pages import NOW, found, new_run, populate
from workflows.models import (
    AirflowCommand,
    CommandKind,
    Dag,
    Event,
    Run,
    TaskInstance,
    Workflow,
)
from workflows.states import RunState


@pytest.mark.parametrize(
    "term",
    ["{id}", "{start_of_id}", "{dag_run_id}", "other_dag", "Other", "ada", "ref-77", "4242", "by hand"],
)
def test_a_run_is_found_by_each_of_its_names(operator: Client, workflow: Workflow, root: User, term: str) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")
    other = Workflow.objects.create(name="Other", dag=Dag.objects.create(dag_id="other_dag"), owner=ada)
    common: dict[str, Any] = {"user": ada, "task_id": 42424242, "dataset_id": "ref-77", "note": "by hand"}
    new_run(other, id=uuid.UUID("f" * 32), dag_run_id="manual__1", **common)
    new_run(workflow, id=uuid.UUID("e" * 32), dag_run_id="svops__e", user=root)

    known = {"id": str(uuid.UUID("f" * 32)), "start_of_id": "ffffffff", "dag_run_id": "manual__1"}
    assert [run.dag_run_id for run in found(operator, "run", f"q={term.format(**known)}")] == ["manual__1"]


def test_runs_are_filtered_by_state_workflow_and_progress(operator: Client, workflow: Workflow) -> None:
    empty = Workflow.objects.create(name="Empty", dag=workflow.dag, owner=workflow.owner)
    running, failed = new_run(workflow), new_run(workflow, RunState.FAILED)

    assert found(operator, "run", "progress=open") == [running]
    assert found(operator, "run", "progress=ended") == [failed]
    assert found(operator, "run", "state__exact=failed") == [failed]
    assert found(operator, "run", f"workflow__id__exact={empty.pk}") == []
    assert found(operator, "run", "dag_id=nightly_etl&state__exact=running") == [running]


def test_deleted_workflows_are_listed_only_when_asked_for(operator: Client, workflow: Workflow, root: User) -> None:
    gone = Workflow.objects.create(name="Gone", dag=workflow.dag, owner=root, deleted_at=NOW)

    assert found(operator, "workflow", "") == [workflow]
    assert found(operator, "workflow", "life=deleted") == [gone]
    assert {row.pk for row in found(operator, "workflow", "life=all")} == {gone.pk, workflow.pk}


def test_commands_are_filtered_by_status(operator: Client, workflow: Workflow) -> None:
    def command(**fields: Any) -> AirflowCommand:
        run = new_run(workflow)
        return AirflowCommand.objects.create(run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW, **fields)

    pending, failing = command(), command(attempts=3, last_error="no answer")
    done, given_up = command(finished_at=NOW), command(finished_at=NOW, last_error="refused")

    assert found(operator, "airflowcommand", "status=pending") == [failing, pending]
    assert found(operator, "airflowcommand", "status=failing") == [failing]
    assert found(operator, "airflowcommand", "status=done") == [done]
    assert found(operator, "airflowcommand", "status=given_up") == [given_up]


def test_tasks_and_events_are_filtered_by_state_type_and_run(operator: Client, workflow: Workflow) -> None:
    populate(workflow, 2)
    task, event = TaskInstance.objects.latest("id"), Event.objects.latest("id")
    TaskInstance.objects.filter(pk=task.pk).update(state="")

    assert found(operator, "taskinstance", "state=waiting") == [task]
    assert found(operator, "taskinstance", f"run__id__exact={task.run_id}") == [task]
    assert found(operator, "event", f"run__id__exact={event.run_id}&type=workflow.started") == [event]
    assert found(operator, "event", "type=workflow.failed") == []


def test_the_box_of_a_row_is_djangos_own(workflow: Workflow) -> None:
    workflow.name = "Größe <\"A\" & 'B'>"
    pages, rows = RunAdmin(Run, site), [new_run(workflow), workflow]

    assert [pages.action_checkbox(row) for row in rows] == [ModelAdmin.action_checkbox(pages, row) for row in rows]
