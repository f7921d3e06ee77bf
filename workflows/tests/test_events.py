"""The catalogue of events and the page made from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import transaction
from django.utils import timezone

from workflows import events
from workflows.management.commands.document_events import document
from workflows.models import Event

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_page_is_what_the_catalogue_makes() -> None:
    assert PAGE.read_text() == document()


def test_the_catalogue_has_exactly_the_types_that_clients_were_promised() -> None:
    assert sorted(events.CATALOGUE) == [
        "dag.import_error",
        "dag.synced",
        "notification.failed",
        "system.airflow_down",
        "system.airflow_up",
        "task.completed",
        "task.failed",
        "task.retrying",
        "task.skipped",
        "task.started",
        "workflow.completed",
        "workflow.external_change",
        "workflow.failed",
        "workflow.paused",
        "workflow.resumed",
        "workflow.retried",
        "workflow.started",
        "workflow.stop_incomplete",
        "workflow.stopped",
        "workflow.triggered",
    ]


def test_every_class_of_the_catalogue_says_what_it_tells() -> None:
    assert [name for name, kind in events.CATALOGUE.items() if not (kind.__doc__ or "").strip().endswith(".")] == []


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_of_the_transaction_of_its_change_is_refused() -> None:
    with pytest.raises(RuntimeError):
        events.record(events.AirflowUp(version="3.3.2"), now=timezone.now())

    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_event_goes_with_the_change_that_is_rolled_back() -> None:
    with transaction.atomic():
        events.record(events.AirflowUp(version="3.3.2"), now=timezone.now())
        transaction.set_rollback(True)

    assert not Event.objects.exists()
