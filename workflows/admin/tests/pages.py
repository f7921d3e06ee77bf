"""Helpers: rows for the lists, and what an action answers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from django.db.models import Model
from django.test import Client

from accounts.models import User
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

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCHEMA = {"type": "object", "properties": {"processing_time": {"type": "integer", "minimum": 1}}, "required": []}


def new_run(workflow: Workflow, state: RunState = RunState.RUNNING, **fields: Any) -> Run:
    run_id = uuid.uuid4()
    known = {"queued_at": NOW, "started_at": NOW} if state != RunState.PENDING else {}
    common = {"dag_id": workflow.dag.dag_id, "dag_run_id": f"svops__{run_id}", "created_at": NOW}
    return Run.objects.create(workflow=workflow, state=state, **({"id": run_id} | known | common | fields))


def populate(workflow: Workflow, n: int) -> None:
    """Add `n` rows to each list, each row with its own relations."""
    for _ in range(n):
        i = Run.objects.count()
        user = User.objects.create_user(f"user{i}", f"user{i}@example.com")
        dag = Dag.objects.create(dag_id=f"dag{i}")
        Workflow.objects.create(name=f"workflow{i}", dag=dag, owner=user)
        run = new_run(workflow, user=user, task_id=i, dataset_id="d", event_count=1)
        TaskInstance.objects.create(run=run, task_id="extract", state="running", started_at=NOW)
        Event.objects.create(
            run=run, workflow=workflow, user=user, seq=1, position=i + 1, type="workflow.started", timestamp=NOW
        )
        AirflowCommand.objects.create(run=run, kind=CommandKind.STOP, created_at=NOW, due_at=NOW)


def messages_of(response: Any) -> list[tuple[int, str]]:
    return [(message.level, message.message) for message in response.context["messages"]]


def act(operator: Client, model: str, action: str, *objects: Model, **more: str) -> list[tuple[int, str]]:
    data = {"action": action, "_selected_action": [str(obj.pk) for obj in objects], **more}
    return messages_of(operator.post(f"/admin/workflows/{model}/", data, follow=True))


def everything() -> list[dict[str, Any]]:
    """Return all rows that a refused action must not change."""
    models: list[type[Model]] = [Workflow, Run, Event, AirflowCommand]
    return [row for model in models for row in model._default_manager.order_by("pk").values()]


def found(operator: Client, model: str, query: str) -> list[Any]:
    response = operator.get(f"/admin/workflows/{model}/?{query}")
    assert response.status_code == 200, response
    return list(response.context["cl"].result_list)
