"""Stopping, pausing and resuming, each with a confirmation."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from console.tests.screen import act, badge, paused, place_of, run_page_shows, sign_in
from console.tests.site import Site
from console.tests.stories import accepted
from workflows.models import Dag, Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, new_run


def test_a_stop_needs_a_confirmation_and_escape_cancels_it(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))

    page.get_by_role("button", name="Stop", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    run.refresh_from_db()
    assert run.state == RunState.PENDING

    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_label("Note").fill("not needed")
    page.get_by_role("button", name="Stop run").click()
    run_page_shows(page, "Stopped")
    run.refresh_from_db()
    assert run.state_reason == "stopped by olga: not needed"


def test_a_refused_action_shows_its_code_and_request(page: Page, site: Site, nightly: Workflow) -> None:
    run = new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, place_of(run))
    page.get_by_role("button", name="Stop", exact=True).click()

    Run.objects.filter(pk=run.pk).update(state=RunState.SUCCESS)
    page.get_by_role("button", name="Stop run").click()

    expect(page.get_by_role("alert").filter(has_text="A run that is success cannot be stopped.")).to_be_visible()
    expect(page.locator("#toasts")).to_contain_text(re.compile(r"wrong_state · request [0-9a-f]{32}"))


def test_a_pending_run_is_paused_and_resumed(page: Page, site: Site, nightly: Workflow) -> None:
    run, other = accepted(nightly), new_run(nightly, RunState.RUNNING)
    sign_in(page, site, nightly.owner, place_of(run))

    act(page, "Pause")
    expect(paused(page)).to_be_visible()
    page.get_by_role("link", name="← Runs").click()
    expect(page.locator(f"tr[data-run='{run.pk}'] .badge")).to_have_text(["Pending", "Paused"])
    expect(badge(page, other)).to_have_text(["Running"])

    page.goto(f"{site.url}/{place_of(run)}")
    act(page, "Resume")
    expect(paused(page)).to_have_count(0)
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    expect(page.locator(".log-type").first).to_have_text(re.compile("workflow.resumed|workflow.queued"))
    run.refresh_from_db()
    assert run.paused is False


def test_other_runs_that_would_freeze_are_listed_before_the_whole_dag_is_paused(
    page: Page, site: Site, lonely: Workflow, staged: StagedAirflow
) -> None:
    run, other = new_run(lonely, RunState.RUNNING), new_run(lonely, RunState.QUEUED)
    sign_in(page, site, lonely.owner, place_of(run))

    act(page, "Pause")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem")).to_have_text([f"Queued{lonely.name}{str(other.pk)[:8]}"])
    expect(dialog.get_by_role("listitem").get_by_role("link")).to_have_attribute("href", place_of(other))
    assert lonely.runs.filter(paused=True).count() == 0
    assert ("PATCH", f"/dags/{lonely.name}") not in staged.calls

    dialog.get_by_role("button", name="Pause the whole DAG").click()
    expect(paused(page)).to_be_visible()
    expect(page.locator(f"[data-workflow='{lonely.pk}']")).to_contain_text("Paused")
    assert lonely.runs.filter(paused=True).count() == 2
    assert staged.calls.count(("PATCH", f"/dags/{lonely.name}")) == 1


def test_a_link_in_a_dialog_closes_the_dialog(page: Page, site: Site, lonely: Workflow) -> None:
    run, other = new_run(lonely, RunState.RUNNING), new_run(lonely, RunState.QUEUED)
    sign_in(page, site, lonely.owner, place_of(run))

    act(page, "Pause")
    page.get_by_role("dialog").get_by_role("link").click()

    run_page_shows(page, "Queued")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.url == f"{site.url}/{place_of(other)}"


def test_a_dag_is_paused_and_resumed_from_the_card_of_its_workflow(page: Page, site: Site, lonely: Workflow) -> None:
    run = new_run(lonely, RunState.RUNNING)
    sign_in(page, site, lonely.owner, f"#/runs?workflow={lonely.pk}")
    card = page.locator(f"[data-workflow='{lonely.pk}']")

    card.get_by_role("button", name=f"Pause {lonely.name}").click()
    page.get_by_role("button", name="Pause DAG").click()
    expect(card.get_by_text("Paused", exact=True)).to_be_visible()
    expect(page.locator(f"tr[data-run='{run.pk}'] .badge")).to_have_text(["Running", "Paused"])
    expect(card.get_by_role("button", name=f"Resume {lonely.name}")).to_be_focused()

    card.get_by_role("button", name=f"Resume {lonely.name}").click()
    page.get_by_role("button", name="Resume DAG").click()
    expect(card.get_by_text("Paused", exact=True)).to_have_count(0)
    expect(badge(page, run)).to_have_text(["Running"])
    assert Dag.objects.get(pk=lonely.dag_id).is_paused is False
