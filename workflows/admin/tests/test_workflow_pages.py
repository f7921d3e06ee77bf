"""The pages of workflows: every change goes through the services."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts.models import User
from workflows.admin.tests.pages import SCHEMA, act, everything, messages_of, new_run
from workflows.models import (
    Dag,
    Grant,
    Run,
    TriggerType,
    Visibility,
    Workflow,
)
from workflows.states import RunState


def test_the_page_of_a_workflow_adds_and_deletes_grants(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")
    page = f"/admin/workflows/workflow/{workflow.pk}/change/"
    row = {"grants-0-user": ada.pk, "grants-0-level": "run", "grants-0-workflow": workflow.pk}

    operator.post(page, form | row | {"grants-TOTAL_FORMS": "1"})
    given = Grant.objects.get()
    assert (given.workflow, given.user, given.level) == (workflow, ada, "run")

    kept = {"grants-TOTAL_FORMS": "1", "grants-INITIAL_FORMS": "1", "grants-0-id": given.pk, "grants-0-DELETE": "on"}
    operator.post(page, form | row | kept)
    assert not Grant.objects.exists()


def test_the_operator_is_the_default_owner_of_a_new_workflow(operator: Client, root: User) -> None:
    page = operator.get("/admin/workflows/workflow/add/")

    assert page.context["adminform"].form.initial["owner"] == root.pk


def test_a_workflow_is_added(operator: Client, form: dict[str, Any], dag: Dag, root: User) -> None:
    response = operator.post("/admin/workflows/workflow/add/", form, follow=True)

    made = Workflow.objects.get()
    assert [level for level, _ in messages_of(response)] == [messages.SUCCESS]
    assert (made.name, made.description, made.dag, made.owner) == ("Reports", "Every morning", dag, root)
    assert (made.is_active, made.visibility, made.default_parameters) == (
        True,
        Visibility.PRIVATE,
        {"processing_time": 5},
    )
    assert LogEntry.objects.get().object_id == str(made.pk)


def test_a_workflow_is_changed(operator: Client, form: dict[str, Any], workflow: Workflow) -> None:
    ada = User.objects.create_user("ada", "ada@example.com")

    response = operator.post(f"/admin/workflows/workflow/{workflow.pk}/change/", form | {"owner": ada.pk}, follow=True)

    changed = Workflow.objects.get()
    assert [level for level, _ in messages_of(response)] == [messages.SUCCESS]
    assert (changed.pk, changed.name, changed.owner) == (workflow.pk, "Reports", ada)
    assert changed.default_parameters == {"processing_time": 5}


@pytest.mark.parametrize(
    ("wrong", "errors"),
    [
        (
            {"default_parameters": '{"processing_time": 0}'},
            {"default_parameters": ["processing_time: 0 is less than the minimum of 1"]},
        ),
        (
            {"default_parameters": "[1]"},
            {"default_parameters": ['Expected a JSON object, such as {"processing_time": 30}.']},
        ),
        (
            {"default_parameters": '{"processing_time": NaN}'},
            {"default_parameters": ["NaN and Infinity are not JSON."]},
        ),
        ({"default_parameters": '{"p": "\\u0000"}'}, {"default_parameters": ["Null characters are not allowed."]}),
        ({"default_parameters": "{"}, {"default_parameters": ["Enter a valid JSON."]}),
        ({"name": "Nightly ETL"}, {"name": ["You already have a workflow with this name."]}),
        ({"name": ""}, {"name": ["This field is required."]}),
        (
            {"dag": "0"},
            {"dag": ["Select a valid choice. That choice is not one of the available choices."]},
        ),
    ],
)
@pytest.mark.parametrize("page", ["add/", "{other}/change/"])
def test_a_refusal_of_a_service_is_shown_at_its_field_and_nothing_is_saved(
    operator: Client,
    form: dict[str, Any],
    workflow: Workflow,
    page: str,
    wrong: dict[str, str],
    errors: dict[str, list[str]],
) -> None:
    other = Workflow.objects.create(name="Other", dag=workflow.dag, owner=workflow.owner)
    before = everything()

    response = operator.post(f"/admin/workflows/workflow/{page.format(other=other.pk)}", form | wrong)

    assert response.status_code == 200
    assert response.context["adminform"].form.errors == errors
    assert everything() == before
    assert not LogEntry.objects.exists()


def test_a_workflow_of_a_vanished_dag_can_be_changed_but_a_new_one_cannot_use_it(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    Dag.objects.update(is_present=False)

    added = operator.post("/admin/workflows/workflow/add/", form)
    changed = operator.post(f"/admin/workflows/workflow/{workflow.pk}/change/", form)

    assert list(added.context["adminform"].form.errors) == ["dag"]
    assert changed.status_code == 302
    assert Workflow.objects.get().name == "Reports"


def test_a_form_offers_only_dags_that_airflow_has(operator: Client, dag: Dag) -> None:
    Dag.objects.create(dag_id="gone", is_present=False)
    query = "app_label=workflows&model_name=workflow&field_name=dag"

    offered = operator.get(f"/admin/autocomplete/?{query}").json()["results"]

    assert offered == [{"id": str(dag.pk), "text": "nightly_etl"}]


def test_a_deleted_workflow_keeps_its_runs_and_is_read_only(
    operator: Client, form: dict[str, Any], workflow: Workflow
) -> None:
    new_run(workflow, RunState.SUCCESS)
    page = f"/admin/workflows/workflow/{workflow.pk}"
    assert "its runs" not in operator.get(f"{page}/delete/").content.decode()

    response = operator.post(f"{page}/delete/", {"post": "yes"}, follow=True)

    assert [level for level, _ in messages_of(response)] == [messages.SUCCESS]
    assert Workflow.objects.get().deleted_at is not None
    assert Run.objects.count() == 1
    assert operator.get(f"{page}/change/").status_code == 200
    assert operator.post(f"{page}/change/", form).status_code == 403
    assert operator.post(f"{page}/delete/", {"post": "yes"}).status_code == 403


def test_a_workflow_with_open_runs_is_not_deleted_and_the_reason_is_a_message(
    operator: Client, workflow: Workflow
) -> None:
    new_run(workflow)
    before = everything()

    response = operator.post(f"/admin/workflows/workflow/{workflow.pk}/delete/", {"post": "yes"}, follow=True)

    why = "1 of its runs have not ended: stop them first."
    assert messages_of(response) == [(messages.WARNING, f"Not deleted. {why}")]
    assert act(operator, "workflow", "delete_selected", workflow, post="yes") == [
        (messages.WARNING, f"Workflow Nightly ETL: {why}")
    ]
    assert everything() == before
    assert not LogEntry.objects.exists()


def test_deleting_selected_workflows_asks_first(operator: Client, workflow: Workflow) -> None:
    asked = operator.post(
        "/admin/workflows/workflow/", {"action": "delete_selected", "_selected_action": [workflow.pk]}
    )
    assert asked.status_code == 200
    assert Workflow.objects.get().deleted_at is None

    said = act(operator, "workflow", "delete_selected", workflow, post="yes")

    assert said == [(messages.SUCCESS, "Workflow Nightly ETL: deleted; its runs are kept")]
    assert Workflow.objects.get().deleted_at is not None


def test_the_action_trigger_starts_a_run_with_the_default_parameters(
    operator: Client, workflow: Workflow, root: User
) -> None:
    Workflow.objects.update(default_parameters={"processing_time": 3})

    [(level, text)] = act(operator, "workflow", "trigger", workflow)

    run = Run.objects.get()
    assert (level, text) == (messages.SUCCESS, f"Workflow Nightly ETL: triggered, {run} is pending")
    assert (run.trigger_type, run.user, run.parameters) == (TriggerType.ADMIN, root, {"processing_time": 3})


def test_a_workflow_that_cannot_be_triggered_is_a_warning(operator: Client, workflow: Workflow) -> None:
    Workflow.objects.update(is_active=False)

    assert act(operator, "workflow", "trigger", workflow) == [
        (messages.WARNING, "Workflow Nightly ETL: The workflow is not active: set is_active to true first.")
    ]
    assert not Run.objects.exists()


def test_a_trigger_without_a_required_parameter_names_it(operator: Client, workflow: Workflow) -> None:
    Dag.objects.update(params_schema=SCHEMA | {"required": ["processing_time"]})

    assert act(operator, "workflow", "trigger", workflow) == [
        (
            messages.ERROR,
            "Workflow Nightly ETL: The parameters do not fit the DAG. "
            "parameters.processing_time: This parameter is required.",
        )
    ]
    assert not Run.objects.exists()
