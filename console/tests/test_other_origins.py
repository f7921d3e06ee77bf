"""A page of another origin in a real browser: REST, errors, server-sent events and a socket, with a ticket."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from console.tests.conftest import shop
from console.tests.screen import PASSWORD
from console.tests.site import Site
from workflows.models import Workflow

CALLS = """
async ({ base, workflow, password }) => {
  const api = `${base}/api/v1`;
  const json = { "Content-Type": "application/json" };
  const post = (path, body, headers) =>
    fetch(api + path, { method: "POST", headers: { ...json, ...headers }, body: JSON.stringify(body) });
  const { access_token } = await (await post("/auth/login", { username: "olga", password })).json();
  const signed = { Authorization: `Bearer ${access_token}` };
  const path = `/workflows/${workflow}/runs`;
  const asked = { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()), Prefer: "wait=1" };
  const answer = await post(path, { parameters: { rows: 3 } }, { ...signed, ...asked });
  const run = await answer.json();
  const { ticket } = await (await post("/tickets", { run_id: run.id, actions: ["view"] }, signed)).json();
  const wrong = await post(path, { parameters: { rows: 0 } }, signed);
  const large = await post(path, { note: "x".repeat(2_000_000) }, signed);
  const source = new EventSource(`${api}/events/stream?ticket=${ticket}`);
  const sent = await new Promise((done, fail) => {
    source.addEventListener("connection.ready", (event) => done(JSON.parse(event.data).type));
    source.onerror = () => fail(new Error("no stream"));
  });
  source.close();
  const socket = new WebSocket(`${api.replace("http", "ws")}/ws?ticket=${ticket}`);
  const frame = await new Promise((done) => { socket.onmessage = ({ data }) => done(JSON.parse(data).type); });
  socket.close();
  return {
    trigger: [answer.status, answer.headers.get("Location"), answer.headers.get("Preference-Applied")],
    id: run.id, wrong: wrong.status, large: large.status, sent, frame,
    has_request_id: Boolean(wrong.headers.get("X-Request-ID")),
  };
}
"""
BLOCKED = """
async (base) => {
  try { await fetch(`${base}/api/v1/workflows`); return "answered"; } catch (error) { return error.name; }
}
"""


def test_a_listed_page_uses_the_whole_api(page: Page, site: Site, elsewhere: str, nightly: Workflow) -> None:
    page.goto(elsewhere)

    seen: Any = page.evaluate(CALLS, {"base": site.url, "workflow": nightly.pk, "password": PASSWORD})

    location = f"/api/v1/workflows/{nightly.pk}/runs/{seen['id']}"
    assert seen["trigger"] == [202, location, "wait=1"]
    assert (seen["wrong"], seen["large"], seen["has_request_id"]) == (400, 413, True)
    assert (seen["sent"], seen["frame"]) == ("connection.ready", "connection.ready")


def test_another_page_reads_nothing(page: Page, site: Site) -> None:
    with shop() as other:
        page.goto(other)

        assert page.evaluate(BLOCKED, site.url) == "TypeError"
