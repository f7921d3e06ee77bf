import assert from "node:assert/strict";
import { test } from "node:test";

import { namesInOrder, whyNotPause, whyNotRetry, whyNotStop } from "../../static/console/actions.js";

const QUEUED_AT = "2026-03-01T12:00:00Z";
const active = ["pending", "queued", "running"];
const ended = ["success", "failed", "stopped"];

test("an active run can be stopped and paused, but not retried", () => {
  for (const state of active) {
    assert.equal(whyNotStop({ state }), "");
    assert.equal(whyNotPause({ state }), "");
    assert.equal(whyNotRetry({ state, queued_at: QUEUED_AT }), "The run has not ended.");
  }
});

test("a run that is stopping allows nothing", () => {
  assert.equal(whyNotStop({ state: "stopping" }), "The run is already stopping.");
  assert.equal(whyNotPause({ state: "stopping" }), "The run is stopping.");
  assert.equal(whyNotRetry({ state: "stopping", queued_at: QUEUED_AT }), "The run has not ended.");
});

test("an ended run can only be retried, if Airflow has ever received it", () => {
  for (const state of ended) {
    assert.equal(whyNotStop({ state }), "The run has ended.");
    assert.equal(whyNotPause({ state }), "The run has ended.");
    assert.equal(whyNotRetry({ state, queued_at: QUEUED_AT }), "");
    assert.match(whyNotRetry({ state, queued_at: null }), /never received/);
  }
});

test("a preview lists tasks in the order in which they run", () => {
  const refs = [
    { task_id: "load", map_index: -1 },
    { task_id: "clean", map_index: 1 },
    { task_id: "clean", map_index: 0 },
  ];

  assert.deepEqual(namesInOrder(refs, ["extract", "clean", "load"]), ["clean [1]", "clean [0]", "load"]);
});
