"""From an event to what the rules need to know of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from notifications.rules import Facts
from workflows import audience
from workflows.events import WorkflowCompleted, WorkflowFailed
from workflows.models import Event, Workflow

OUTCOMES = (WorkflowCompleted.type, WorkflowFailed.type)


def visibility(events: Iterable[Event]) -> dict[int, Facts]:
    """By the event's primary key: only what it takes to decide who may see it."""
    events = list(events)
    audiences = audience.load({event.workflow_id for event in events if event.workflow_id})
    return {
        event.pk: Facts(
            type=event.type,
            workflow_id=event.workflow_id,
            user_id=event.user_id,
            data=event.data,
            audience=audiences.get(event.workflow_id) if event.workflow_id else None,
        )
        for event in events
    }


def of(event: Event) -> Facts:
    """As it is now: the audience of a workflow changes."""
    facts = visibility([event])[event.pk]
    return facts if event.workflow_id is None else replace(facts, **_of_workflow(event, event.workflow_id))


def _of_workflow(event: Event, workflow_id: int) -> dict[str, Any]:
    tags = Workflow.objects.filter(pk=workflow_id).values_list("dag__tags", flat=True).first()
    return {"tags": frozenset(tags or ()), "changed": _changed(event, workflow_id)}


def _changed(event: Event, workflow_id: int) -> bool | None:
    """Whether this end of a run differs from the one before; of a workflow's first, only a failure does."""
    if event.type not in OUTCOMES:
        return None
    earlier = Event.objects.filter(workflow_id=workflow_id, type__in=OUTCOMES, pk__lt=event.pk)
    before = earlier.order_by("-id").values_list("type", flat=True).first()
    return (before or WorkflowCompleted.type) != event.type
