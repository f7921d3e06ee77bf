"""The logs of tasks, on the page of their run."""

from __future__ import annotations

import threading

from playwright.sync_api import Page, expect

from console.tests.screen import node, place_of, sign_in
from console.tests.site import Site
from console.tests.stories import accepted, begin
from workflows.airflow.tests.scripted import Reply, Request
from workflows.models import Workflow
from workflows.tests.stage import StagedAirflow, at, task
from workflows.watch.observation import Observation
from workflows.watch.observe import observe


def test_a_click_on_a_task_shows_its_log_and_follows_it_to_its_end(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "one", "two")
    sign_in(page, site, nightly.owner, place_of(run))

    node(page, "extract").get_by_role("link").click()
    expect(page.locator(".log-text")).to_have_text(["one", "two"])
    expect(page.locator(".log-status")).to_have_text("Following")
    staged.put_log(run, "extract", "one", "two", "three")
    expect(page.locator(".log-text")).to_have_text(["one", "two", "three"])

    staged.put_task(run, "extract", "success", tries=1)
    staged.put_log(run, "extract", "one", "two", "three", "::group::Post Execute", "::endgroup::")
    expect(page.locator(".log-status")).to_have_text("The log has ended.")
    expect(page.locator(".log-text")).to_have_text(["one", "two", "three", "Post Execute"])

    page.get_by_role("link", name="Close the log").click()
    expect(page.locator(".log")).to_be_hidden()
    expect(node(page, "extract").get_by_role("link")).to_be_focused()


def test_an_earlier_try_of_a_task_is_chosen_by_its_number(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    observe(run.pk, Observation(at=at(5), tasks=[task(run, "extract", "failed", tries=2, start=3, end=4)]))
    staged.put_task(run, "extract", "failed", tries=2, start=3, end=4)
    staged.put_log(run, "extract", "it broke", tries=1)
    staged.put_log(run, "extract", "it broke again", tries=2)
    sign_in(page, site, nightly.owner, place_of(run))

    page.locator(".timeline").get_by_role("link", name="extract").click()
    expect(page.locator(".log-text")).to_have_text(["it broke again"])
    page.get_by_role("combobox", name="Try").select_option("Try 1")

    expect(page.locator(".log-text")).to_have_text(["it broke"])
    assert page.url == f"{site.url}/{place_of(run)}?task=extract&try_number=1"


def test_the_failed_instance_of_a_mapped_task_is_shown_first(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    instances = [task(run, "clean", state, index=n, start=3, end=4) for n, state in enumerate(("success", "failed"))]
    observe(run.pk, Observation(at=at(5), tasks=instances))
    for index, state in enumerate(("success", "failed")):
        staged.put_task(run, "clean", state, tries=1, index=index, start=3, end=4)
        staged.put_log(run, "clean", f"this is {index}", index=index)
    sign_in(page, site, nightly.owner, place_of(run))

    node(page, "clean").get_by_role("link").click()
    expect(page.locator(".log-text")).to_have_text(["this is 1"])
    page.get_by_role("combobox", name="Instance").select_option("0 · Success")

    expect(page.locator(".log-text")).to_have_text(["this is 0"])


def test_the_log_of_a_task_appears_when_the_task_starts(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    sign_in(page, site, nightly.owner, f"{place_of(run)}?task=extract")
    expect(page.locator(".log-status")).to_have_text("The task has not started yet. Its log appears when it starts.")

    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "<b>at work</b>")
    begin(run)

    expect(page.locator(".log-text")).to_have_text(["<b>at work</b>"])


def test_a_log_that_cannot_be_read_says_why_and_can_be_tried_again(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    sign_in(page, site, nightly.owner, f"{place_of(run)}?task=extract")
    expect(page.locator(".log-status")).to_contain_text("The run has no task extract in Airflow")

    staged.put_task(run, "extract", "running", tries=1)
    staged.put_log(run, "extract", "here after all")
    page.get_by_role("button", name="Try again").click()

    expect(page.locator(".log-text")).to_have_text(["here after all"])


def test_while_airflow_prepares_a_log_the_page_says_so_and_then_shows_it(
    page: Page, site: Site, nightly: Workflow, staged: StagedAirflow
) -> None:
    run = accepted(nightly)
    begin(run)
    staged.put_task(run, "extract", "running", tries=1)
    released = threading.Event()

    def prepare(_request: Request) -> Reply:
        assert released.wait(60)
        return Reply(200, b'{"event": "here at last"}\n')

    path = f"/dags/{run.dag_id}/dagRuns/{run.dag_run_id}/taskInstances/extract/logs/1"
    staged.answers["GET", path] = prepare
    sign_in(page, site, nightly.owner, f"{place_of(run)}?task=extract")
    expect(page.locator(".log-status")).to_contain_text("Airflow is still preparing this log.")

    released.set()

    expect(page.locator(".log-text")).to_have_text(["here at last"])
    expect(page.locator(".log-status")).to_have_text("Following")
