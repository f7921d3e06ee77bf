"""The content of messages: the envelope for programs; a title, facts and links for people."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings

from notifications.models import Delivery, Kind
from notifications.transports.base import Message
from rest.masking import mask
from rest.times import iso
from workflows.eventlog.publication import envelope
from workflows.models import Airflow, Event
from workflows.naming import DEFAULT

TONES = {
    "workflow.completed": "good",
    "workflow.failed": "bad",
    "workflow.stop_incomplete": "bad",
    "task.failed": "bad",
    "dag.import_error": "bad",
    "system.airflow_down": "bad",
    "system.airflow_up": "good",
    "system.airflow_emptied": "good",
    "notification.failed": "bad",
}
VERBS = {
    "workflow.triggered": "was triggered",
    "workflow.started": "has started",
    "workflow.completed": "has completed",
    "workflow.result": "has its result",
    "workflow.failed": "has failed",
    "workflow.stopped": "was stopped",
    "workflow.retried": "is retried",
    "workflow.paused": "is paused",
    "workflow.resumed": "is resumed",
    "workflow.stop_incomplete": "did not stop in time",
    "workflow.external_change": "was changed in Airflow",
    "task.started": "has started",
    "task.completed": "has completed",
    "task.failed": "has failed",
    "task.retrying": "has failed and is retried",
    "task.skipped": "was skipped",
    "task.awaiting_input": "waits for a person",
    "task.input_received": "was answered",
}
EXCERPT = 1_500


def message_for(delivery: Delivery, *, log: str = "") -> Message:
    """Return the message of a delivery. `log` is the end of the failed task's log, if there is one."""
    if delivery.kind == Kind.DIGEST:
        return _digest(delivery)
    if delivery.event is None:
        return _about_svops(delivery)
    if delivery.kind == Kind.RECOVERY:
        return _recovery(delivery, delivery.event)
    return _of_event(delivery, delivery.event, log=log)


def _of_event(delivery: Delivery, event: Event, *, log: str) -> Message:
    return Message(
        id=delivery.message_id,
        body=envelope(event),
        title=_title(event),
        tone=TONES.get(event.type, "info"),
        facts=_facts(event),
        excerpt=_excerpt(event, log),
        links=_links(event),
    )


def _excerpt(event: Event, log: str) -> str:
    """Return what is quoted, without secrets: they were not masked in old events."""
    if event.type == "task.awaiting_input":
        return mask(str(event.data["body"]))[:EXCERPT]
    return mask(log or str(event.data.get("reason") or event.data.get("error") or ""))[-EXCERPT:]


def _recovery(delivery: Delivery, event: Event) -> Message:
    failures = delivery.episode.failures if delivery.episode else 0
    return Message(
        id=delivery.message_id,
        body={**envelope(event), "recovery": {"failures": failures}},
        title=f"{_subject(event)} works again, after {_times(failures)}",
        tone="good",
        facts=_facts(event),
        links=_links(event),
    )


def _digest(delivery: Delivery) -> Message:
    last = delivery.folded.select_related("event__workflow", "event__run").order_by("-id").first()
    if last is None or last.event is None:
        raise ValueError("the digest has no deliveries")
    count, event = delivery.folded_count, last.event
    since = iso(delivery.created_at)
    return Message(
        id=delivery.message_id,
        body={**envelope(event), "digest": {"count": count, "since": since}},
        title=f"{_subject(event)} keeps failing: {_times(count)} more",
        tone="bad",
        facts=(*_facts(event), ("Since", since)),
        excerpt=mask(str(event.data.get("reason") or ""))[-EXCERPT:],
        links=_links(event),
    )


def _times(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _about_svops(delivery: Delivery) -> Message:
    title = {
        Kind.TEST: "SVOps tests your notifications",
        Kind.CANARY: "Canary: SVOps delivers notifications",
    }[Kind(delivery.kind)]
    body = {
        "id": None,
        "seq": None,
        "type": f"notification.{delivery.kind}",
        "workflow_id": None,
        "run_id": None,
        "task_id": None,
        "user_id": delivery.config.owner_id,
        "timestamp": delivery.created_at,
        "data": {"config_id": delivery.config_id, "name": delivery.config.name},
    }
    # A mail may reach somebody who does not know who wrote this name.
    is_mail = delivery.config.channel == "email"
    facts = (("Config", str(delivery.config_id) if is_mail else delivery.config.name),)
    return Message(id=delivery.message_id, body=body, title=title, facts=facts, links=(("Open SVOps", _page("/")),))


def _title(event: Event) -> str:
    if event.type in VERBS:
        return f"{_subject(event)} {VERBS[event.type]}"
    data = event.data
    return {
        "dag.synced": f"DAG {data.get('dag_id')} has changed",
        "dag.import_error": f"Airflow cannot import {data.get('filename')}",
        "system.airflow_down": f"{_airflow(event)} does not answer",
        "system.airflow_up": f"{_airflow(event)} answers again",
        "system.airflow_emptied": f"{_airflow(event)} is drained and has no open run any more",
        "notification.failed": f"Notifications to {data.get('name')} fail",
    }.get(event.type, event.type)


def _airflow(event: Event) -> str:
    return Airflow.called(event.data.get("airflow", DEFAULT))


def _subject(event: Event) -> str:
    name = event.workflow.name if event.workflow else "?"
    return f"{name}: {event.task_id}" if event.task_id else name


def _facts(event: Event) -> tuple[tuple[str, str], ...]:
    run, data = event.run, event.data
    facts = [
        ("Workflow", event.workflow.name if event.workflow else ""),
        ("Run", str(run.pk) if run else ""),
        ("Task", event.task_id),
        ("State", str(data.get("state", ""))),
        ("Question", str(data.get("subject", ""))),
        ("Options", ", ".join(data.get("options", []))),
        ("May answer", ", ".join(data.get("respondents", []))),
        ("Answer", ", ".join(data.get("chosen", []))),
        ("Answered by", str(data.get("by", "")) if event.type == "task.input_received" else ""),
        ("Duration", _duration(event)),
        ("Failed tasks", ", ".join(data.get("failed_tasks", []))),
        ("Still running", ", ".join(data.get("still_running", []))),
        ("Attempt", str(data["attempt"]) if data.get("attempt", 1) != 1 else ""),
        ("Started by", run.user.get_username() if run and run.user else ""),
        ("At", event.timestamp.strftime("%Y-%m-%d %H:%M:%S UTC")),
    ]
    return tuple((name, value) for name, value in facts if value)


def _duration(event: Event) -> str:
    seconds: Any = event.data.get("duration_s")
    return str(timedelta(seconds=round(seconds))) if seconds is not None else ""


def _links(event: Event) -> tuple[tuple[str, str], ...]:
    if event.run_id is None:
        return (("Open SVOps", _page("/")),)
    return (
        ("Open the run", _page(f"/#/workflows/{event.workflow_id}/runs/{event.run_id}")),
        ("Open the workflow", _page(f"/#/workflows/{event.workflow_id}")),
    )


def _page(path: str) -> str:
    return settings.PUBLIC_URL.rstrip("/") + path
