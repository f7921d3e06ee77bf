"""Reads the facts about an event that the rules use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from notifications.rules import Facts
from workflows.eventlog import audience
from workflows.eventlog.events import WorkflowCompleted, WorkflowFailed
from workflows.models import Event, Workflow

OUTCOMES = (WorkflowCompleted.type, WorkflowFailed.type)


def visibility(events: Iterable[Event]) -> dict[int, Facts]:
    """Return, by primary key of the event, the facts that decide who can see it."""
    events = list(events)
    keys = {event.pk: audience.key_of(event) for event in events}
    audiences = audience.load_all({key for key in keys.values() if key is not None})
    return {
        event.pk: Facts(
            type=event.type,
            workflow_id=event.workflow_id,
            user_id=event.user_id,
            data=event.data,
            audience=None if (key := keys[event.pk]) is None else audiences.get(key),
        )
        for event in events
    }


def of(event: Event) -> Facts:
    """Return all facts as they are now: the audience of a workflow may change later."""
    return replace(of_all([event])[event.pk], changed=changed(event))


def of_all(events: Iterable[Event]) -> dict[int, Facts]:
    """Return the facts by primary key of the event, all but `changed`, which costs a query for each event."""
    facts = visibility(events)
    workflow_ids = [one.workflow_id for one in facts.values() if one.workflow_id is not None]
    tags: dict[int | None, list[str]] = dict(
        Workflow.objects.filter(pk__in=workflow_ids).values_list("pk", "dag__tags")
    )
    return {pk: replace(one, tags=frozenset(tags.get(one.workflow_id) or ())) for pk, one in facts.items()}


def changed(event: Event) -> bool | None:
    """Return whether this end of a run differs from the one before. A first run changes something only if it fails."""
    if event.type not in OUTCOMES or event.workflow_id is None:
        return None
    earlier = Event.objects.filter(workflow_id=event.workflow_id, type__in=OUTCOMES, pk__lt=event.pk)
    before = earlier.order_by("-id").values_list("type", flat=True).first()
    return (before or WorkflowCompleted.type) != event.type
