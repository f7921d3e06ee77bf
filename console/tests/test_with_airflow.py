"""The console on top of a real Airflow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django import Settings

from accounts.models import User
from conftest import AirflowServer
from console.tests.screen import field, node, open_trigger, run_page_shows, sign_in
from console.tests.site import Site, until
from workflows import gateway
from workflows.dispatch import dispatcher
from workflows.models import Airflow, Dag, Run, Workflow
from workflows.naming import DEFAULT
from workflows.states import TERMINAL
from workflows.watch import dags, poll


@pytest.mark.airflow
def test_a_run_triggered_from_the_form_is_followed_to_its_end_and_its_retry_is_previewed(
    page: Page, database: str, log_folder: Path, olga: User, airflow_server: AirflowServer, settings: Settings
) -> None:
    settings.AIRFLOW_URL = airflow_server.url
    gateway.pooled_client.cache_clear()
    dags.sync_dags(DEFAULT, now=timezone.now())
    Airflow.objects.update(looked_at=timezone.now())
    dag = Dag.objects.get(dag_id="simple_workflow_example")
    workflow = Workflow.objects.create(name="Simple", dag=dag, owner=olga)
    site = Site(database_url=database, log=log_folder / "airflow.log", env={"AIRFLOW_URL": airflow_server.url})
    try:
        sign_in(page, site, olga)
        open_trigger(page, workflow)
        field(page, "processing_time").get_by_role("textbox").fill("0")
        page.get_by_role("button", name="Trigger run").click()
        run_page_shows(page, re.compile("Pending|Queued|Running"))

        run = workflow.runs.get()
        until(lambda: tick_until_ended(run), what="the run has ended", deadline=90)
        run_page_shows(page, "Success")
        for name in ("start", "processing", "completion"):
            expect(node(page, name)).to_have_attribute("data-state", "success")
        node(page, "processing").get_by_role("link").click()
        expect(page.locator(".log-text").filter(has_text="processing:").first).to_be_visible()
        expect(page.locator(".log-status")).to_have_text("The log has ended.")

        page.get_by_role("button", name="Retry", exact=True).click()
        page.get_by_role("radio", name="From one task on").check()
        page.get_by_role("combobox", name="First task").select_option("processing")
        expect(page.locator(".names code")).to_have_text(["processing", "completion"])
    finally:
        site.kill()
        gateway.pooled_client.cache_clear()


def tick_until_ended(run: Run) -> bool:
    """Do what the worker does every two seconds, and return whether the run has ended."""
    dispatcher.dispatch_due(DEFAULT, now=timezone.now())
    poll.tick(DEFAULT, now=timezone.now())
    run.refresh_from_db()
    return run.state in TERMINAL
