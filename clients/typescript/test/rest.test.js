import assert from "node:assert/strict";
import { test } from "node:test";

import { Svops, SvopsError } from "../dist/index.js";
import { json, lost, serving } from "./stage.js";

const run = { id: "0b5e", state: "pending" };
const busy = (seconds) => json(429, { code: "throttled", detail: "Too many requests." }, { "Retry-After": seconds });

async function asking(t, ...answers) {
  const { url, asked } = await serving(t, ...answers);
  return { svops: new Svops({ url, token: "key" }), asked };
}

test("a request names who asks and what, and quotes the parts of a path", async (t) => {
  const { svops, asked } = await asking(t, json(200, { dag_id: "a/b" }));

  const dag = await svops.get("/dags/{dag_id}", { path: { dag_id: "a/b ü" }, query: { airflow: "prod" } });

  assert.deepEqual(dag, { dag_id: "a/b" });
  assert.equal(asked[0].url, "/api/v1/dags/a%2Fb%20%C3%BC?airflow=prod");
  assert.equal(asked[0].headers.authorization, "Bearer key");
});

test("a missing part of a path is an error and nothing is sent", async (t) => {
  const { svops, asked } = await asking(t);

  await assert.rejects(svops.get("/workflows/{id}", { path: {} }), { message: "path.id is missing" });
  assert.deepEqual(asked, []);
});

test("several values of a filter are sent, and those that are undefined are not", async (t) => {
  const { svops, asked } = await asking(t, json(200, { results: [], next: null }));

  await svops.get("/runs", { query: { state: ["failed", "stopped"], search: undefined, workflow: 3 } });

  assert.equal(asked[0].url, "/api/v1/runs?state=failed&state=stopped&workflow=3");
});

test("a trigger whose answer is lost is sent again with the same key", async (t) => {
  const { svops, asked } = await asking(t, lost, json(503, { code: "busy" }, { "Retry-After": 0 }), json(201, run));

  const answer = await svops.trigger(3, { parameters: { rows: 5 } });

  const keys = asked.map(({ headers }) => headers["idempotency-key"]);
  assert.deepEqual(answer, run);
  assert.equal(asked.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.match(keys[0], /^[0-9a-f]+(-[0-9a-f]+){3}$/);
  assert.deepEqual(asked[2].body, { parameters: { rows: 5 } });
  assert.equal(asked[2].url, "/api/v1/workflows/3/runs");
});

test("two triggers are two runs, unless they are given one key", async (t) => {
  const { svops, asked } = await asking(t, json(201, run), json(201, run), json(201, run));

  await svops.trigger(3);
  await svops.post("/workflows/{workflow_id}/runs", { path: { workflow_id: 3 }, body: {} });
  await svops.trigger(3, {}, { idempotencyKey: "order-4711" });

  const keys = asked.map(({ headers }) => headers["idempotency-key"]);
  assert.equal(new Set(keys).size, 3);
  assert.equal(keys[2], "order-4711");
});

test("what is not safe to repeat is sent once", async (t) => {
  const { svops, asked } = await asking(t, lost);

  await assert.rejects(svops.post("/workflows/{id}/pause", { path: { id: 3 }, body: {} }), {
    status: 0,
    code: "unreachable",
  });
  assert.equal(asked.length, 1);
  assert.equal(asked[0].headers["idempotency-key"], undefined);
});

test("Retry-After is obeyed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { svops, asked } = await asking(t, busy(30), json(200, { scopes: [] }));
  const answer = svops.get("/auth/me");
  while (asked.length < 1) await new Promise(setImmediate);
  await new Promise(setImmediate);

  let waited = 0;
  while (asked.length < 2) {
    t.mock.timers.tick(100);
    waited += 100;
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  }

  assert.deepEqual(await answer, { scopes: [] });
  assert.ok(waited >= 30_000, `${waited} ms`);
});

test("a Retry-After that is too long to wait for is told", async (t) => {
  const { svops, asked } = await asking(t, busy(3_600));

  await assert.rejects(svops.get("/auth/me"), (error) => {
    assert.ok(error instanceof SvopsError);
    assert.deepEqual([error.status, error.code, error.retryAfter], [429, "throttled", 3_600]);
    return true;
  });
  assert.equal(asked.length, 1);
});

test("an error has all that SVOps says", async (t) => {
  const body = {
    code: "invalid",
    detail: "The parameters do not fit the DAG.",
    errors: { "parameters.rows": ["-5 is less than the minimum of 0"] },
    request_id: "5f0c6d3b8e7a4c19a2d4f6b8c0e1d3f5",
  };
  const { svops } = await asking(t, json(400, body));

  await assert.rejects(svops.trigger(3, { parameters: { rows: -5 } }), (error) => {
    assert.equal(error.message, "The parameters do not fit the DAG.");
    assert.equal(error.status, 400);
    assert.deepEqual(error.errors, body.errors);
    assert.equal(error.requestId, body.request_id);
    assert.deepEqual(error.body, body);
    return true;
  });
});

test("an answer that is not JSON, as a proxy gives it, is an error with its status", async (t) => {
  const { svops } = await asking(t, (answer) => answer.writeHead(418).end("<html>"));

  await assert.rejects(svops.get("/auth/me"), { status: 418, code: "error", message: "SVOps answered 418." });
});

test("a log that Airflow is still preparing is asked for until it is there", async (t) => {
  const preparing = json(202, { code: "preparing", detail: "…" }, { "Retry-After": 0 });
  const { svops, asked } = await asking(t, ...Array(5).fill(preparing), json(200, { lines: [], ended: true }));
  const path = { workflow_id: 3, run_id: "0b5e", task_id: "load" };

  const log = await svops.get("/workflows/{workflow_id}/runs/{run_id}/tasks/{task_id}/logs", { path });

  assert.deepEqual(log, { lines: [], ended: true });
  assert.equal(asked.length, 6);
});

test("a token that ends is renewed once for all requests that wait", async (t) => {
  const no = json(401, { code: "not_authenticated" });
  const { url, asked } = await serving(t, no, no, json(200, {}), json(200, {}));
  let number = 0;
  const svops = new Svops({ url, token: async () => `k${++number}` });

  await Promise.all([svops.get("/auth/me"), svops.get("/auth/me")]);

  assert.deepEqual(
    asked.map(({ headers }) => headers.authorization),
    ["Bearer k1", "Bearer k1", "Bearer k2", "Bearer k2"],
  );
});

test("a new token that is refused is an error", async (t) => {
  const no = json(401, { code: "not_authenticated" });
  const { url, asked } = await serving(t, no, no);

  await assert.rejects(new Svops({ url, token: () => "k" }).get("/auth/me"), { status: 401 });
  assert.equal(asked.length, 2);
});

test("a list yields everything, page after page, also when its links name another host", async (t) => {
  const next = "http://svops.internal:8000/api/v1/runs?cursor=c2";
  const { svops, asked } = await asking(
    t,
    json(200, { results: [{ id: "a" }, { id: "b" }], next }),
    json(200, { results: [{ id: "c" }], next: null }),
  );

  const ids = [];
  for await (const { id } of svops.list("/runs", { query: { workflow: 3 } })) ids.push(id);

  assert.deepEqual(ids, ["a", "b", "c"]);
  assert.deepEqual(
    asked.map(({ url }) => url),
    ["/api/v1/runs?workflow=3", "/api/v1/runs?cursor=c2"],
  );
});

test("an answer that does not come is lost", async (t) => {
  const { url, asked } = await serving(t, () => {}, json(200, { scopes: [] }));

  assert.deepEqual(await new Svops({ url, token: "key", timeout: 0.05 }).get("/auth/me"), { scopes: [] });
  assert.equal(asked.length, 2);
});

test("SVOps may be below a path", async (t) => {
  const { url, asked } = await serving(t, json(200, {}));

  await new Svops({ url: `${url}/svops/`, token: "key" }).get("/auth/me");

  assert.equal(asked[0].url, "/svops/api/v1/auth/me");
});

test("aborting ends a request and its waits", async (t) => {
  const { svops, asked } = await asking(t, busy(30));
  const giving = new AbortController();
  const answer = svops.get("/auth/me", { signal: giving.signal });
  while (asked.length < 1) await new Promise(setImmediate);

  giving.abort();

  await assert.rejects(answer, { name: "AbortError" });
  assert.equal(asked.length, 1);
});

test("without an address there is nothing to ask", () => {
  assert.throws(() => new Svops({ token: "key" }), { message: "url: where is SVOps?" });
});
