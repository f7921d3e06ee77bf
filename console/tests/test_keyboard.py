"""The console without a mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from console.tests.screen import place_of, run_page_shows, sign_in
from console.tests.site import Site
from workflows.models import Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run


def test_the_slash_key_focuses_the_search_which_filters_the_workflows(
    page: Page, site: Site, nightly: Workflow
) -> None:
    sign_in(page, site, nightly.owner)
    expect(page.locator(f"[data-workflow='{nightly.pk}']")).to_be_visible()

    page.keyboard.press("/")
    page.keyboard.type(nightly.name)
    expect(page.locator(".workflow")).to_have_count(1)
    page.keyboard.type(" and nothing like it")

    expect(page.locator("#workflows")).to_contain_text("No workflow matches")


def test_the_stop_dialog_of_a_run_is_reached_by_keyboard_alone(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")

    page.locator(f"tr[data-run='{run.pk}'] a").focus()
    page.keyboard.press("Enter")
    run_page_shows(page, "Running")
    page.get_by_role("button", name="Stop", exact=True).focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("dialog", name="Stop this run?")).to_be_visible()


def test_the_skip_link_focuses_the_content_and_keeps_the_address(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    page.locator(".skip").focus()
    page.keyboard.press("Enter")

    expect(page.locator("main")).to_be_focused()
    assert page.url == f"{site.url}/{place_of(run)}"
