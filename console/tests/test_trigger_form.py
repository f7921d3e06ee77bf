"""The form that triggers a workflow."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from playwright.sync_api import Page, expect

from console.tests.screen import field, open_trigger, run_page_shows, sign_in
from console.tests.site import Site
from workflows.models import Airflow, Workflow


def test_a_wrong_parameter_shows_a_message_at_its_field_and_triggers_no_run(
    page: Page, site: Site, nightly: Workflow
) -> None:
    sign_in(page, site, nightly.owner)
    open_trigger(page, nightly)

    field(page, "share").get_by_role("textbox").fill("half")
    page.get_by_role("button", name="Trigger run").click()

    expect(field(page, "rows").locator(".problem")).to_have_text("This parameter is required.")
    expect(field(page, "share").locator(".problem")).to_have_text("'half' is not of type 'number'")
    expect(field(page, "rows").get_by_role("textbox")).to_be_focused()
    assert not nightly.runs.exists()


def test_the_form_sends_each_parameter_in_its_own_type(page: Page, site: Site, nightly: Workflow) -> None:
    Airflow.objects.update(reachable=False)
    sign_in(page, site, nightly.owner)
    open_trigger(page, nightly)

    field(page, "rows").get_by_role("textbox").fill("12")
    field(page, "mode").get_by_role("combobox").select_option("slow")
    field(page, "verbose").get_by_role("checkbox").check()
    field(page, "columns").get_by_role("textbox").fill('["id", "name"]')
    page.get_by_text("Start later, date, note and references").click()
    field(page, "note").get_by_role("textbox").fill("From the form")
    page.get_by_role("button", name="Trigger run").click()

    run_page_shows(page, "Pending")
    run = nightly.runs.get()
    assert run.parameters == {
        "rows": 12,
        "share": 0.5,
        "mode": "slow",
        "table": None,
        "verbose": True,
        "columns": ["id", "name"],
    }
    assert (run.note, run.task_id, run.dataset_id, run.run_at) == ("From the form", None, None, None)


def test_the_form_starts_from_the_defaults_of_the_workflow_and_of_the_dag(
    page: Page, site: Site, nightly: Workflow
) -> None:
    Workflow.objects.filter(pk=nightly.pk).update(default_parameters={"rows": 7, "region": "eu"})
    sign_in(page, site, nightly.owner)

    open_trigger(page, nightly)

    expect(field(page, "rows").get_by_role("textbox")).to_have_value("7")
    expect(field(page, "share").get_by_role("textbox")).to_have_value("0.5")
    expect(page.get_by_text("Also sent, from the workflow's defaults: region.")).to_be_visible()


def test_a_run_that_starts_later_shows_its_start_time(page: Page, site: Site, lonely: Workflow) -> None:
    sign_in(page, site, lonely.owner)
    open_trigger(page, lonely)

    page.get_by_text("Start later, date, note and references").click()
    page.get_by_label("Start at").fill("2000-01-01T09:30")
    page.get_by_role("button", name="Trigger run").click()
    expect(field(page, "run_at").locator(".problem")).to_have_text("Must be in the future.")
    assert not lonely.runs.exists()

    page.get_by_label("Start at").fill("2090-01-02T09:30")
    page.get_by_label("Logical date").fill("2026-03-01T00:00")
    page.get_by_role("button", name="Trigger run").click()
    run_page_shows(page, "Pending")
    expect(page.locator(".run-sub")).to_contain_text(re.compile("starts at .*2090.* 09:30"))
    run = lonely.runs.get()
    # The browser uses the clock of this machine.
    assert run.run_at == datetime(2090, 1, 2, 9, 30).astimezone(UTC)
    assert run.logical_date == datetime(2026, 3, 1).astimezone(UTC)
    page.get_by_role("link", name="← Runs").click()
    expect(page.locator(f"tr[data-run='{run.pk}'] .starts")).to_have_text(re.compile("^starts at .*2090.* 09:30$"))
