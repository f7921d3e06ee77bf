import assert from "node:assert/strict";
import { test } from "node:test";

import { detailsOf, toneOf } from "../../static/console/event-words.js";

const words = (type, data, task = null) => detailsOf({ type, task_id: task, data });

test("an event of a task names its instance, its try and its duration", () => {
  assert.equal(
    words("task.failed", { map_index: 2, try_number: 3, duration_s: 4.25 }, "load"),
    "load [2] · try 3 · 4.3 s",
  );
  assert.equal(words("task.started", { map_index: -1, try_number: 1 }, "load"), "load");
});

test("an event of a run says who did what and why", () => {
  assert.equal(words("workflow.paused", { by: "olga", note: "not now" }), "by olga · not now");
  assert.equal(
    words("workflow.retried", { attempt: 2, mode: "failed", by: "olga" }),
    "attempt 2 · mode failed · by olga",
  );
  assert.equal(words("workflow.paused", { scope: "workflow" }), "the whole DAG");
  assert.equal(words("workflow.external_change", { change: "cleared" }), "cleared in Airflow");
});

test("the reason of a stop is not followed by who stopped it and the note, which it contains", () => {
  const data = { by: "olga", note: "not needed", reason: "stopped by olga: not needed" };

  assert.equal(words("workflow.stopped", data), "stopped by olga: not needed");
});

test("a stop that is not complete names the tasks that still run", () => {
  assert.equal(words("workflow.stop_incomplete", { still_running: ["a", "b"] }), "still running: a, b");
  assert.equal(words("workflow.stop_incomplete", { still_running: [] }), "");
});

test("a duration of zero is shown, except for a task that was skipped", () => {
  assert.equal(words("workflow.completed", { duration_s: 0 }), "0.0 s");
  assert.equal(words("workflow.completed", { duration_s: null }), "");
  assert.equal(words("task.skipped", { duration_s: 2 }, "load"), "load");
});

test("the tone follows from the type, or else from the state", () => {
  assert.equal(toneOf({ type: "workflow.paused", data: {} }), "warning");
  assert.equal(toneOf({ type: "workflow.failed", data: { state: "failed" } }), "failed");
  assert.equal(toneOf({ type: "dag.synced", data: {} }), "idle");
});
