"""The banner that says when states may be old."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils import timezone
from playwright.sync_api import Page, expect

from console.tests.screen import place_of, sign_in
from console.tests.site import Site
from workflows import gateway
from workflows.models import Airflow, Workflow
from workflows.naming import DEFAULT
from workflows.states import RunState
from workflows.tests.stage import new_run


def test_the_banner_appears_while_airflow_is_down(page: Page, site: Site, nightly: Workflow) -> None:
    new_run(nightly)
    sign_in(page, site, nightly.owner)
    expect(page.locator("#banner")).to_be_hidden()

    # No longer in the future: a failure older than the last successful look would not count.
    Airflow.objects.update(looked_at=timezone.now())
    gateway.record_down(DEFAULT, reason="refused", now=timezone.now())
    expect(page.locator("#banner")).to_contain_text("Airflow does not answer.")
    gateway.record_up(DEFAULT, version="3.3.2", now=timezone.now())

    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("#toasts")).to_contain_text("Airflow answers again.")


def test_old_states_are_marked_as_old_from_the_start(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    Airflow.objects.update(looked_at=datetime(2026, 1, 1, tzinfo=UTC))

    sign_in(page, site, nightly.owner, place_of(run))

    expect(page.locator("#banner")).to_contain_text("You see the last known states.")
