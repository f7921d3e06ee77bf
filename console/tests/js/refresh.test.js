import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError } from "../../static/console/api.js";
import { refresher } from "../../static/console/refresh.js";

const PAUSE_MS = 10;
const settled = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 10));

test("calls while one is under way are joined into one more", async () => {
  let calls = 0;
  const refresh = refresher(async () => {
    calls += 1;
  }, PAUSE_MS);

  refresh();
  assert.equal(calls, 1);
  refresh();
  refresh();
  refresh();
  await settled();

  assert.equal(calls, 2);
});

test("two calls never run at the same time", async () => {
  let running = 0;
  let most = 0;
  const refresh = refresher(async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    running -= 1;
  }, 0);

  for (let count = 0; count < 5; count += 1) {
    refresh();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS / 2));
  }
  await settled();

  assert.equal(most, 1);
});

test("a server that does not answer does not end the refreshing", async () => {
  let calls = 0;
  const refresh = refresher(async () => {
    calls += 1;
    throw new ApiError(0, {});
  }, PAUSE_MS);

  refresh();
  await settled();
  refresh();
  await settled();

  assert.equal(calls, 2);
});
