import assert from "node:assert/strict";
import { test } from "node:test";

import { addressOf, queryOf, runsBelow } from "../../static/console/run-list.js";

const run = (id) => ({ id: `run ${id}`, created_at: new Date(Date.UTC(2026, 0, 1, 0, 0, id)).toISOString() });
const runs = (...ids) => ids.map(run);

test("a filter by state asks for each state that it stands for", () => {
  assert.equal(String(queryOf({})), "page_size=50");
  assert.equal(String(queryOf({ state: "failed", workflow: "3" })), "page_size=50&workflow=3&state=failed");
  assert.deepEqual(queryOf({ state: "active" }).getAll("state"), ["pending", "queued", "running", "stopping"]);
  assert.deepEqual(queryOf({ state: "unknown" }).getAll("state"), []);
});

test("an address names only the filters that are set", () => {
  assert.equal(addressOf({ state: "failed", workflow: "3" }), "#/runs?state=failed&workflow=3");
  assert.equal(addressOf({ state: "", workflow: "" }), "#/runs");
});

test("runs of later pages stay below a new first page", () => {
  const page = { results: runs(9, 8, 7), next: "…" };

  assert.deepEqual(runsBelow(runs(8, 7, 6, 5), page), runs(6, 5));
});

test("no runs stay when so many are new that there would be a gap", () => {
  assert.deepEqual(runsBelow(runs(4, 3), { results: runs(9, 8, 7), next: "…" }), []);
});

test("no runs stay below the last page", () => {
  assert.deepEqual(runsBelow(runs(8, 7, 6), { results: runs(8, 7), next: null }), []);
  assert.deepEqual(runsBelow(runs(8), { results: [], next: null }), []);
});
