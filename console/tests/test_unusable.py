"""A DAG that SVOps cannot use is marked with its reason wherever it or its workflow is shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from console.tests.screen import DESKTOP, PHONE, place_of, sign_in
from console.tests.site import Site
from workflows.models import Dag, Workflow
from workflows.states import RunState
from workflows.tests.stage import new_run

REASON = "The parameter a_name_without_any_place_to_break_anywhere_in_it: 'str' is no type of JSON schema."


@pytest.mark.parametrize("context", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
def test_an_unusable_dag_is_marked_with_its_reason_on_each_page(
    page: Page, site: Site, lonely: Workflow, request: pytest.FixtureRequest
) -> None:
    run = new_run(lonely, RunState.SUCCESS)
    Dag.objects.filter(pk=lonely.dag_id).update(unusable_reason=REASON)
    sign_in(page, site, lonely.owner, "#/workflows")
    width = _width(page)

    card = page.locator(f"[data-workflow='{lonely.pk}']")
    _says_so(page, card.locator(".unusable").first.inner_text())
    expect(card.locator(".unusable")).to_be_visible()
    expect(card.get_by_role("button", name="Trigger")).to_be_disabled()
    for place in (f"#/runs?workflow={lonely.pk}", place_of(run)):
        page.goto(f"{site.url}/{place}")
        note = page.locator("main .unusable")
        expect(note).to_be_visible()
        _says_so(page, note.inner_text())
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    Dag.objects.filter(pk=lonely.dag_id).update(unusable_reason="")
    page.reload()
    expect(page.get_by_role("heading", name=lonely.name)).to_be_visible()
    expect(page.locator("main .unusable")).to_have_count(0)


def _says_so(page: Page, text: str) -> None:
    assert text == f"unusable {REASON}"


def _width(page: Page) -> int:
    size: ViewportSize | None = page.viewport_size
    assert size is not None
    return size["width"]
