import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, addressOf, orError, runPath } from "../../static/console/api.js";

test("a path of the API becomes an address on this site", () => {
  assert.equal(addressOf(runPath(3, "abc")), "/api/v1/workflows/3/runs/abc");
});

test("a link to the next page loses its host, which can be another one behind a proxy", () => {
  assert.equal(
    addressOf("http://internal:8000/api/v1/runs?cursor=x&page_size=50"),
    "/api/v1/runs?cursor=x&page_size=50",
  );
});

test("a refusal carries the API's message, code, fields and request", () => {
  const body = { code: "wrong_state", detail: "A run that has ended cannot be stopped.", request_id: "abc" };

  const error = new ApiError(409, body);

  assert.equal(error.message, body.detail);
  assert.deepEqual([error.status, error.code, error.errors, error.requestId], [409, "wrong_state", {}, "abc"]);
});

test("a refusal without a body still says something", () => {
  assert.equal(new ApiError(502, {}).message, "The server answered 502.");
});

test("a refusal can be taken as an answer, but a fault of the page cannot", async () => {
  const refusal = new ApiError(404, {});

  assert.equal(await orError(Promise.reject(refusal)), refusal);
  assert.equal(await orError(Promise.resolve(1)), 1);
  await assert.rejects(orError(Promise.reject(new TypeError("fault"))), TypeError);
});
