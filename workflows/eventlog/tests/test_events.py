"""The catalogue of events and the page made from it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from django.db import transaction
from django.utils.timezone import now

from workflows.eventlog import events
from workflows.management.commands.document_events import document, json_type
from workflows.models import Event, Visibility
from workflows.naming import DEFAULT
from workflows.states import RunState

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


def test_the_page_is_what_the_catalogue_makes() -> None:
    assert PAGE.read_text() == document()


def test_the_page_shows_the_types_of_json() -> None:
    types = (str, int, float | None, bool, list[str], datetime | None, events.RetryMode, Visibility)

    assert [json_type(kind) for kind in types] == [
        "string",
        "integer",
        "number | null",
        "boolean",
        "array of string",
        "string (date-time) | null",
        '"failed" | "all" | "from_task"',
        '"internal" | "private"',
    ]


@pytest.mark.django_db(transaction=True)
def test_an_event_is_stored_as_json() -> None:
    started = datetime(2026, 3, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    with transaction.atomic():
        event = events.record(
            events.WorkflowStarted(airflow=DEFAULT, state=RunState.RUNNING, attempt=1, started_at=started), now=now()
        )

    assert (
        json.dumps(event.data)
        == '{"state": "running", "attempt": 1, "airflow": "default", "started_at": "2026-03-01T12:00:00Z"}'
    )
    assert type(event.data["state"]) is str


def test_the_catalogue_has_exactly_the_types_that_clients_were_promised() -> None:
    assert sorted(events.CATALOGUE) == [
        "dag.import_error",
        "dag.synced",
        "notification.failed",
        "system.airflow_down",
        "system.airflow_emptied",
        "system.airflow_up",
        "task.awaiting_input",
        "task.completed",
        "task.failed",
        "task.input_received",
        "task.retrying",
        "task.skipped",
        "task.started",
        "workflow.completed",
        "workflow.external_change",
        "workflow.failed",
        "workflow.paused",
        "workflow.result",
        "workflow.resumed",
        "workflow.retried",
        "workflow.started",
        "workflow.stop_incomplete",
        "workflow.stopped",
        "workflow.triggered",
    ]


def test_every_class_of_the_catalogue_says_what_it_means() -> None:
    assert [name for name, kind in events.CATALOGUE.items() if not (kind.__doc__ or "").strip().endswith(".")] == []


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_of_the_transaction_of_its_change_is_refused() -> None:
    with pytest.raises(RuntimeError):
        events.record(events.AirflowUp(airflow=DEFAULT, version="3.3.2"), now=now())

    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_event_goes_with_the_change_that_is_rolled_back() -> None:
    with transaction.atomic():
        events.record(events.AirflowUp(airflow=DEFAULT, version="3.3.2"), now=now())
        transaction.set_rollback(True)

    assert not Event.objects.exists()
