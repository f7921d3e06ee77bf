"""The page of one run, live."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from django.db import transaction
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts.models import User
from console.tests.screen import is_live, node, place_of, run_page_shows, sign_in
from console.tests.site import Site
from console.tests.stories import accepted, begin, end
from workflows.lifecycle.moves import reopen
from workflows.models import Run, Visibility, Workflow
from workflows.states import RunState
from workflows.tests.stage import at, dag_run, new_run, task
from workflows.watch.observation import Observation
from workflows.watch.observe import observe


def test_the_page_of_a_run_follows_its_tasks_and_events(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))
    expect(page.locator("progress")).to_have_attribute("value", "0")

    begin(run)
    run_page_shows(page, "Running")
    expect(node(page, "extract")).to_have_attribute("data-state", "running")
    expect(node(page, "load")).to_have_attribute("data-state", "")
    expect(page.locator(".timeline li")).to_have_count(1)
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_disabled()

    end(run, "failed")
    run_page_shows(page, "Failed")
    expect(node(page, "clean")).to_contain_text("Failed")
    expect(node(page, "load")).to_contain_text("Not run")
    expect(page.locator("progress")).to_have_attribute("value", "1")
    expect(page.locator(".reason")).to_have_text("failed in Airflow: clean")
    for name in ("Stop", "Pause"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_disabled()
    expect(page.get_by_role("button", name="Why is it waiting?")).to_have_count(0)
    assert page.title() == f"Failed · {nightly.name} - SVOps"
    types = [event.type for event in run.events.order_by("-seq")]
    expect(page.locator(".log-type")).to_have_text(types)
    assert types[0] == "workflow.failed"


def test_the_page_shows_what_a_task_asks_a_person_and_a_state_that_it_does_not_know(
    page: Page, site: Site, nightly: Workflow
) -> None:
    run = accepted(nightly)
    begin(run)
    seen = [task(run, "extract", "awaiting_input", start=1), task(run, "count", "hibernating", start=2)]
    observe(run.pk, Observation(at=at(4), run=dag_run(run, "running", start=1), tasks=seen))
    question = {"subject": "May <b>it</b> go on?", "body": "Look first.", "options": ["Yes", "No"]}
    more = {"respondents": ["ada"], "defaults": [], "multiple": False, "params": {}, "asked_at": None, "answer": None}
    run.tasks.filter(task_id="extract").update(question={**question, **more})
    sign_in(page, site, nightly.owner, place_of(run))

    questions = page.locator(".questions")
    expect(questions.locator("article")).to_have_count(1)
    expect(questions).to_contain_text("extract May <b>it</b> go on?")
    expect(questions).to_contain_text("Options: Yes, No. Answer it in Airflow. Only these accounts may: ada.")
    expect(node(page, "extract")).to_contain_text("Waiting for a person")
    expect(node(page, "count")).to_contain_text("hibernating")

    end(run)
    run_page_shows(page, "Success")
    expect(questions).to_be_hidden()


def test_after_a_crash_of_the_web_process_the_page_reconnects_and_shows_every_event(
    page: Page, site: Site, nightly: Workflow
) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, place_of(run))
    expect(page.locator(".event-log li")).to_have_count(1)

    site.kill()
    expect(page.locator("#connection")).to_have_text("Reconnecting")
    begin(run)
    end(run)
    site.start()
    # Browsers send this event when the network is back. Without it the page waits for its next own attempt.
    page.evaluate("dispatchEvent(new Event('online'))")

    is_live(page)
    run_page_shows(page, "Success")
    total = run.events.count()
    expect(page.locator(".event-log li")).to_have_count(total)
    shown = page.locator(".event-log li").evaluate_all("lines => lines.map(line => Number(line.dataset.seq))")
    assert shown == list(range(total, 0, -1))


def test_html_in_a_note_is_shown_as_text(page: Page, site: Site, nightly: Workflow) -> None:
    note = "<img src=x onerror=alert(1)><b>bold</b>"
    run = accepted(nightly, note=note)

    sign_in(page, site, nightly.owner, place_of(run))

    expect(page.get_by_role("definition").filter(has_text=note)).to_be_visible()
    expect(page.locator("main img, main b")).to_have_count(0)


def test_a_run_that_the_user_cannot_see_looks_like_no_run(
    page: Page, site: Site, nightly: Workflow, vera: User
) -> None:
    run = new_run(nightly)
    Workflow.objects.filter(pk=nightly.pk).update(visibility=Visibility.PRIVATE)

    sign_in(page, site, vera, place_of(run))

    expect(page.get_by_text("There is no such run, or you cannot see it.")).to_be_visible()


def test_earlier_attempts_of_a_run_are_listed_newest_first(page: Page, site: Site, nightly: Workflow) -> None:
    run = accepted(nightly)
    begin(run)
    end(run, "failed")
    for state in (RunState.FAILED, RunState.STOPPED):
        Run.objects.filter(pk=run.pk).update(state=state)
        run.refresh_from_db()
        with transaction.atomic():
            assert reopen(run)

    sign_in(page, site, nightly.owner, place_of(run))

    attempts = page.locator(".attempts > li")
    expect(attempts.locator("strong")).to_have_text(["Attempt 2", "Attempt 1"])
    expect(attempts.locator(".badge")).to_have_text(["Stopped", "Failed"])
    expect(attempts.nth(1)).to_contain_text("took 8.0 s")
    expect(attempts.nth(1)).to_contain_text("Failed: clean")


def test_the_dialog_says_why_a_run_waits_and_can_ask_again(page: Page, site: Site, lonely: Workflow) -> None:
    run = accepted(lonely)
    Run.objects.filter(pk=run.pk).update(paused=True)
    sign_in(page, site, lonely.owner, place_of(run))

    page.get_by_role("button", name="Why is it waiting?").click()
    reasons = page.locator(".reasons li")
    expect(reasons).to_have_text(["The run is paused before its start.You can act: Resume it."])
    Run.objects.filter(pk=run.pk).update(paused=False, run_at=datetime(2090, 1, 2, 9, 30, tzinfo=UTC))
    page.get_by_role("button", name="Ask again").click()
    expect(reasons).to_have_text(["It starts at 2090-01-02 09:30:00 UTC.Nothing to do: Wait, or stop it."])

    page.get_by_role("button", name="Close", exact=True).last.click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_viewer_sees_no_button_that_changes_anything(page: Page, site: Site, nightly: Workflow, vera: User) -> None:
    run = new_run(nightly, RunState.RUNNING)

    sign_in(page, site, vera, place_of(run))

    run_page_shows(page, "Running")
    expect(page.locator(f"[data-workflow='{nightly.pk}'] > a")).to_be_visible()
    expect(page.get_by_role("button", name="Why is it waiting?")).to_be_enabled()
    for name in (re.compile("^Trigger"), re.compile("^Pause"), re.compile("^Stop$"), re.compile("^Retry$")):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_a_run_of_a_deleted_workflow_can_only_be_read(page: Page, site: Site, lonely: Workflow) -> None:
    run = new_run(lonely, RunState.FAILED)
    Run.objects.filter(pk=run.pk).update(queued_at=at(0))
    sign_in(page, site, lonely.owner, place_of(run))
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_enabled()

    Workflow.objects.filter(pk=lonely.pk).update(deleted_at=timezone.now())
    page.reload()

    expect(page.get_by_text("The workflow was deleted. Its runs are read-only.")).to_be_visible()
    run_page_shows(page, "Failed")
    for name in ("Pause", "Stop", "Retry"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
