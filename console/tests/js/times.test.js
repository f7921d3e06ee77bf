import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, relative, secondsBetween, when } from "../../static/console/times.js";

test("a duration has one decimal below ten seconds, and two units from a minute on", () => {
  const texts = [-1, 0, 4.24, 9.99, 10, 59.9, 60, 65, 3599, 3600, 7800, 90_000].map(duration);

  assert.deepEqual(texts, [
    "0.0 s",
    "0.0 s",
    "4.2 s",
    "10.0 s",
    "10 s",
    "59 s",
    "1 min 00 s",
    "1 min 05 s",
    "59 min 59 s",
    "1 h 00 min",
    "2 h 10 min",
    "25 h 00 min",
  ]);
});

test("a time in the past is given in its largest unit", () => {
  const texts = [-3, 0, 4.9, 5, 59, 60, 3599, 3600, 86_399, 86_400, 200_000].map(relative);

  assert.deepEqual(texts, [
    "just now",
    "just now",
    "just now",
    "5 s ago",
    "59 s ago",
    "1 min ago",
    "59 min ago",
    "1 h ago",
    "23 h ago",
    "1 d ago",
    "2 d ago",
  ]);
});

test("the seconds between two times do not depend on their time zones", () => {
  assert.equal(secondsBetween("2026-03-01T12:00:00Z", "2026-03-01T13:00:01.500+01:00"), 1.5);
});

test("the seconds of something that has not ended count until now", () => {
  const begin = new Date(Date.now() - 60_000).toISOString();

  for (const end of [null, undefined, ""]) assert.ok(Math.abs(secondsBetween(begin, end) - 60) < 5);
});

test("a time today has no date, and a time on another day has one", () => {
  const now = new Date().toISOString();

  assert.match(when(now), /^\d\d:\d\d$/);
  assert.match(when("2090-01-02T09:30:00Z"), /2090/);
});
