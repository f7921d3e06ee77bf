"""The doctor's page in the admin, on wide and narrow screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from django.test import Client
from playwright.sync_api import Page, ViewportSize, expect

from accounts.models import Role, User
from console.tests.screen import DESKTOP, PHONE
from console.tests.site import Site
from workflows.models import Airflow

# The longest name of an Airflow. Its listener's address ends with it.
NAME = "deployment" * 5


@pytest.fixture
def far(database: str) -> Iterator[Airflow]:
    """A further Airflow that does not answer, and nobody takes its pushes."""
    options = {"url": "http://127.0.0.1:9", "username": "svops", "password": "x", "ingest_secret": "x"}
    airflow = Airflow.objects.create(name=NAME, options=options)
    yield airflow
    airflow.delete()


@pytest.fixture
def admin(database: str) -> Iterator[User]:
    user = User.objects.create_user("doc", "doc@example.com", "correct horse battery", role=Role.ADMIN)
    yield user
    user.delete()


@pytest.mark.parametrize("context", [PHONE, DESKTOP], indirect=True, ids=["phone", "desktop"])
def test_long_addresses_wrap(page: Page, site: Site, admin: User, far: Airflow, context: object) -> None:
    """Before: on a phone the page was 506 px wide, of 390."""
    client = Client()
    client.force_login(admin)
    session = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": session, "url": site.url}])
    page.goto(f"{site.url}/admin/doctor/")
    page.get_by_role("button", name="Check now").click()

    expect(page.get_by_role("cell", name=f"/api/v1/ingest/{far.name} does not take a push")).to_be_visible()
    size: ViewportSize = page.viewport_size or PHONE
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
