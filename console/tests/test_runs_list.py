"""The list of runs, live."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from console.tests.screen import badge, sign_in
from console.tests.site import Site
from console.tests.stories import accepted, begin, end
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import at, new_run


def test_the_list_shows_a_run_that_others_trigger_and_follows_it_to_its_end(
    page: Page, site: Site, nightly: Workflow
) -> None:
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")
    expect(page.get_by_text("No run matches.")).to_be_visible()

    run = accepted(nightly, note="Over the API")
    expect(badge(page, run)).to_have_text("Pending")
    begin(run)
    expect(badge(page, run)).to_have_text("Running")
    end(run)
    expect(badge(page, run)).to_have_text("Success")

    expect(page.locator(f"tr[data-run='{run.pk}'] .cell-took")).to_have_text("8.0 s")
    expect(page.get_by_text("Over the API")).to_be_visible()


def test_the_list_is_filtered_by_state_and_workflow(page: Page, site: Site, nightly: Workflow) -> None:
    going, failed = new_run(nightly, RunState.RUNNING), new_run(nightly, RunState.FAILED)
    sign_in(page, site, nightly.owner)

    page.locator(f"[data-workflow='{nightly.pk}'] > a").click()
    page.get_by_role("link", name="Failed", exact=True).click()

    expect(badge(page, failed)).to_have_text("Failed")
    expect(badge(page, going)).to_have_count(0)
    assert page.url == f"{site.url}/#/runs?workflow={nightly.pk}&state=failed"


def test_the_list_loads_older_runs_and_keeps_them_up_to_date(page: Page, site: Site, nightly: Workflow) -> None:
    oldest = new_run(nightly)
    Run.objects.filter(pk=oldest.pk).update(created_at=at(-1))
    for _ in range(50):
        new_run(nightly, RunState.SUCCESS)
    sign_in(page, site, nightly.owner, f"#/runs?workflow={nightly.pk}")
    expect(page.locator("tr[data-run]")).to_have_count(50)

    page.get_by_role("button", name="Load older runs").click()
    expect(badge(page, oldest)).to_have_text("Queued")
    begin(oldest)

    expect(badge(page, oldest)).to_have_text("Running")
    expect(page.locator("tr[data-run]")).to_have_count(51)
