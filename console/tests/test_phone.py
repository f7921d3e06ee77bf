"""The console at the width of a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from console.tests.screen import PHONE, node, place_of, sign_in
from console.tests.site import Site
from console.tests.stories import accepted
from workflows.models import Run, Workflow


@pytest.mark.parametrize("context", [PHONE], indirect=True)
def test_everything_fits_on_a_phone_and_the_graph_runs_downwards(page: Page, site: Site, nightly: Workflow) -> None:
    Workflow.objects.filter(pk=nightly.pk).update(name="a_name_without_any_place_to_break_" * 3)
    run = accepted(nightly, note="another_one_without_any_place_to_break_" * 3)
    Run.objects.filter(pk=run.pk).update(paused=True)
    sign_in(page, site, nightly.owner, "#/workflows")
    for place in ("#/workflows", "#/runs", place_of(run), f"{place_of(run)}?task=extract"):
        page.goto(f"{site.url}/{place}")
        expect(page.locator(".workflow:visible, tr[data-run]:visible, .node:visible").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    first, last = node(page, "extract").bounding_box(), node(page, "load").bounding_box()
    assert first is not None
    assert last is not None
    assert last["y"] > first["y"] + first["height"]
