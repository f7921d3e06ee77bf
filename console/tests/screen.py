"""What a test does on the page, and how it finds things there."""

from __future__ import annotations

import re

from django.conf import settings as django_settings
from django.test import Client
from playwright.sync_api import Locator, Page, ViewportSize, expect

from accounts.models import User
from console.tests.site import Site
from workflows.models import Run, Workflow

PASSWORD = "correct horse battery"
DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


def sign_in(page: Page, site: Site, user: User, place: str = "") -> None:
    """Open the console as a signed-in user and wait until it is live."""
    client = Client()
    client.force_login(user)
    session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
    page.goto(f"{site.url}/{place}")
    is_live(page)


def is_live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("Live")


def place_of(run: Run) -> str:
    return f"#/runs/{run.workflow_id}/{run.pk}"


def badge(page: Page, run: Run) -> Locator:
    return page.locator(f"tr[data-run='{run.pk}'] .badge")


def node(page: Page, task_id: str) -> Locator:
    return page.locator(f".node[data-task='{task_id}']")


def field(page: Page, name: str) -> Locator:
    return page.locator(f"dialog [data-parameter='{name}']")


def run_page_shows(page: Page, state: str | re.Pattern[str]) -> None:
    expect(page.locator(".run-title .badge")).to_have_text(state)


def open_trigger(page: Page, workflow: Workflow) -> None:
    page.locator(f"[data-workflow='{workflow.pk}']").get_by_role("button", name="Trigger").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def paused(page: Page) -> Locator:
    return page.locator("main").get_by_text("Paused", exact=True)


def act(page: Page, action: str) -> None:
    """Click one of the run's buttons and confirm."""
    page.get_by_role("button", name=action, exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=f"{action} run").click()
