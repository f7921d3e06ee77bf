"""The retry dialog: what would run, and from which task or single instance on."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from console.tests.screen import DESKTOP, PHONE, place_of, sign_in
from console.tests.site import Site
from workflows.models import Run, Workflow
from workflows.states import RunState
from workflows.tests.stage import StagedAirflow, at, dag_run, new_run, task
from workflows.watch.observation import Observation
from workflows.watch.observe import observe


@pytest.fixture
def failed(nightly: Workflow, staged: StagedAirflow) -> Run:
    """A run in which one of twelve instances of `clean` has failed."""
    dag = nightly.dag
    dag.tasks = [{**one, "is_mapped": one["task_id"] == "clean"} for one in dag.tasks]
    dag.save()
    run = new_run(nightly, RunState.QUEUED)
    states = {index: "failed" if index == 10 else "success" for index in range(12)}
    staged.put(run, "failed", start=1, end=9)
    staged.put_task(run, "extract", "success", start=1, end=2)
    for index, state in states.items():
        staged.put_task(run, "clean", state, start=3, end=6, index=index)
    staged.put_task(run, "load", "upstream_failed", start=6, end=6)
    tasks = [
        task(run, "extract", "success", start=1, end=2),
        *(task(run, "clean", state, start=3, end=6, index=index) for index, state in states.items()),
        task(run, "load", "upstream_failed", start=6, end=6),
    ]
    observe(run.pk, Observation(at=at(10), run=dag_run(run, "failed", start=1, end=9), tasks=tasks, all_tasks=True))
    observe(run.pk, Observation(at=at(60), run=dag_run(run, "failed", start=1, end=9), tasks=tasks, all_tasks=True))
    return run


@pytest.mark.parametrize("context", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
def test_a_single_instance_of_a_mapped_task_is_retried(
    page: Page, site: Site, failed: Run, staged: StagedAirflow
) -> None:
    sign_in(page, site, failed.workflow.owner, place_of(failed))
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog = page.get_by_role("dialog")
    first, instance = dialog.get_by_label("First task"), dialog.get_by_label("Instance", exact=True)
    expect(instance).to_be_hidden()

    first.select_option("clean")
    expect(dialog.get_by_role("radio", name="From one task on")).to_be_checked()
    expect(instance.get_by_role("option")).to_have_text(
        ["all instances", *(f"[{index}] {'failed' if index == 10 else 'success'}" for index in range(12))]
    )
    expect(dialog.get_by_role("listitem")).to_have_count(13)

    # With the keyboard alone.
    instance.focus()
    page.keyboard.type("[10")
    expect(instance).to_have_value("10")
    expect(dialog.get_by_role("listitem")).to_have_text(["clean [10]", "load"])
    size = page.viewport_size
    assert size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    dialog.get_by_role("button", name="Retry run").click()

    expect(dialog).to_have_count(0)
    failed.refresh_from_db()
    retried = failed.events.get(type="workflow.retried").data
    assert (retried["mode"], failed.attempt) == ("from_task", 2)


def test_another_task_offers_no_instance_of_the_one_before(page: Page, site: Site, failed: Run) -> None:
    sign_in(page, site, failed.workflow.owner, place_of(failed))
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("First task").select_option("clean")
    dialog.get_by_label("Instance", exact=True).select_option("3")
    expect(dialog.get_by_role("listitem")).to_have_text(["clean [3]", "load"])

    dialog.get_by_label("First task").select_option("load")

    expect(dialog.get_by_label("Instance", exact=True)).to_be_hidden()
    expect(dialog.get_by_role("listitem")).to_have_text(["load"])
