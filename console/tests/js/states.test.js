import assert from "node:assert/strict";
import { test } from "node:test";

import { ACTIVE, isTaskDone, label, startsLater, TERMINAL, together, tone } from "../../static/console/states.js";

test("every state of a run has a label, and is either active or terminal", () => {
  const states = ["pending", "queued", "running", "stopping", "success", "failed", "stopped"];

  assert.deepEqual([...ACTIVE, ...TERMINAL], states);
  for (const state of states) assert.notEqual(label(state), state);
});

test("an unknown state shows its own name in a neutral tone", () => {
  assert.equal(label("sleeping"), "sleeping");
  assert.equal(tone("sleeping"), "idle");
  assert.equal(tone(undefined), "idle");
});

test("a task that never runs counts as done", () => {
  assert.deepEqual(["success", "failed", "skipped", "upstream_failed", "removed"].filter(isTaskDone).length, 5);
  const unfinished = ["", "scheduled", "running", "up_for_retry", "deferred", "awaiting_input", "sleeping"];
  assert.deepEqual(unfinished.filter(isTaskDone), []);
});

test("a failed instance decides the state of a mapped task, then one that still runs", () => {
  assert.equal(together(["success", "failed", "running"]), "failed");
  assert.equal(together(["success", "running", "queued"]), "running");
  assert.equal(together(["success", ""]), "");
  assert.equal(together(["success", "success"]), "success");
  assert.equal(together([]), "");
  assert.equal(together(["success", "sleeping"]), "sleeping");
  assert.equal(together(["success", "awaiting_input", "running"]), "awaiting_input");
});

test("only a pending run with a start time in the future starts later", () => {
  const future = new Date(Date.now() + 60_000).toISOString();

  assert.equal(startsLater({ state: "pending", run_at: future }), true);
  assert.equal(startsLater({ state: "pending", run_at: "2020-01-01T00:00:00Z" }), false);
  assert.equal(startsLater({ state: "pending", run_at: null }), false);
  assert.equal(startsLater({ state: "running", run_at: future }), false);
});
