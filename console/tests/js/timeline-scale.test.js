import assert from "node:assert/strict";
import { test } from "node:test";

import { scaleOf, spanOf, startedOf } from "../../static/console/timeline-scale.js";

const at = (seconds) => new Date(Date.UTC(2026, 2, 1, 12) + seconds * 1000).toISOString();
const instance = (start, end, more = {}) => ({
  task_id: "load",
  map_index: -1,
  started_at: start === null ? null : at(start),
  ended_at: end === null ? null : at(end),
  ...more,
});

test("instances are shown in the order of their start, and those that have not started are left out", () => {
  const started = startedOf([instance(5, 6), instance(null, null), instance(1, 9)]);

  assert.deepEqual(
    started.map((one) => one.started_at),
    [at(1), at(5)],
  );
});

test("the scale reaches from the first start to the last end", () => {
  assert.deepEqual(scaleOf([instance(1, 9), instance(5, 6)]), { begin: at(1), seconds: 8 });
});

test("the scale reaches to now while a task runs", () => {
  const begin = new Date(Date.now() - 60_000).toISOString();

  const { seconds } = scaleOf([{ ...instance(0, 1), started_at: begin, ended_at: null }]);

  assert.ok(Math.abs(seconds - 60) < 5);
});

test("the scale has a length even when no time has passed", () => {
  assert.equal(scaleOf([instance(1, 1)]).seconds, 0.1);
});

test("a bar begins and ends where its task does", () => {
  const scale = { begin: at(0), seconds: 10 };

  assert.deepEqual(spanOf(instance(0, 10), scale), { start: 0, length: 100 });
  assert.deepEqual(spanOf(instance(2, 7), scale), { start: 20, length: 50 });
  assert.deepEqual(spanOf(instance(12, 30), scale), { start: 100, length: 100 });
});
