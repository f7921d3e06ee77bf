import assert from "node:assert/strict";
import { test } from "node:test";

import { followLog, followRun, SvopsError } from "../dist/index.js";
import { event, idsOf, RUN, ready, Stage, take } from "./stage.js";

const url = "https://svops.example.com";

/** Follow the run on scripted sockets, until the test ends. */
async function following(t, options = {}) {
  const stage = new Stage();
  const stream = followRun(RUN, { url, WebSocket: stage.WebSocket, ticket: "t1", ...options });
  t.after(() => stream.close());
  await stage.opened(1);
  return { stage, stream };
}

test("a run is followed from its beginning to its end, each event once", async (t) => {
  const { stage, stream } = await following(t);
  const ids = idsOf(stream);

  stage.replay(event(3, "workflow.started"), event(5));
  stage.send(event(5), event(6), { type: "events", events: [event(6), event(8, "workflow.completed")] });

  assert.deepEqual(await ids, [3, 5, 6, 8]);
  assert.equal(stage.socket.url, "wss://svops.example.com/api/v1/ws");
  assert.deepEqual(stage.socket.protocols, ["svops.v1", "bearer.t1"]);
  assert.deepEqual(stage.socket.sent, [
    { type: "subscribe", run_id: RUN },
    { type: "resume", after: 0 },
  ]);
  assert.equal(stage.socket.isClosed, true);
  assert.equal(stream.connection, "ended");
  assert.equal(stream.cursor, 8);
});

test("what comes before the replay does not count, because it comes again", async (t) => {
  const { stage, stream } = await following(t);

  stage.send(ready(9), event(9), { type: "heartbeat", cursor: 9 }, { type: "resuming", from: 0 });
  stage.send(event(8), event(9));

  assert.deepEqual(await take(stream, 2), [8, 9]);
});

test("after a lost connection the stream goes on behind its last event", async (t) => {
  const { stage, stream } = await following(t);
  stage.replay(event(3));
  stage.close(1006);
  stream.hurry();
  await stage.opened(2);

  stage.replay(event(3), event(4));

  assert.equal(stage.resumedAfter, 3);
  assert.deepEqual(await take(stream, 2), [3, 4]);
});

test("a connection that is cut in the middle of a replay goes on where it was cut, whatever the heartbeat said", async (t) => {
  const { stage, stream } = await following(t);
  stage.send(ready(40), { type: "resuming", from: 0 }, event(3), { type: "heartbeat", cursor: 40 });
  stage.close(1006);
  stream.hurry();
  await stage.opened(2);

  stage.replay(event(4));

  assert.equal(stage.resumedAfter, 3);
});

test("a heartbeat moves the cursor past what others have done", async (t) => {
  const { stage, stream } = await following(t);
  stage.replay(event(3));
  assert.deepEqual(await take(stream, 1), [3]);

  stage.send({ type: "heartbeat", cursor: 30 });

  assert.equal(stream.cursor, 30);
});

test("an attempt that failed and was retried is not the end", async (t) => {
  const { stage, stream } = await following(t);
  const ids = idsOf(stream);

  stage.replay(event(1, "workflow.failed"), event(2, "workflow.retried"), event(3, "workflow.started"));
  stage.send(event(4, "workflow.completed"));

  assert.deepEqual(await ids, [1, 2, 3, 4]);
});

test("a result that is still pending belongs to the run", async (t) => {
  const { stage, stream } = await following(t);
  const ids = idsOf(stream);
  const completed = (id, type, result) => event(id, type, { data: { state: "success", result } });
  stage.replay(completed(1, "workflow.completed", { state: "pending" }));
  assert.equal(stream.connection, "live");

  stage.send(completed(2, "workflow.result", { state: "available", value: 7 }));

  assert.deepEqual(await ids, [1, 2]);
});

test("with keepOpen a stream goes on after the end", async (t) => {
  const { stage, stream } = await following(t, { keepOpen: true });

  stage.replay(event(1, "workflow.failed"));
  stage.send(event(2, "workflow.retried"));

  assert.deepEqual(await take(stream, 2), [1, 2]);
  assert.equal(stream.connection, "live");
});

test("a run that had ended before the cursor ends at a heartbeat", async (t) => {
  const { stage, stream } = await following(t, { after: 9 });
  const ids = idsOf(stream);
  stage.replay();
  stage.send({ type: "status", cursor: 9, run: { state: "success" }, tasks: [] });
  assert.equal(stream.connection, "live");

  stage.send({ type: "heartbeat", cursor: 9 });

  assert.deepEqual(await ids, []);
});

test("a ticket that ends is replaced at once, and no event is missed", async (t) => {
  let number = 0;
  const { stage, stream } = await following(t, { ticket: async () => `t${++number}` });
  stage.replay(event(1));
  stage.close(4401);
  await stage.opened(2);
  stage.replay(event(2));

  assert.equal(stage.ticket, "t2");
  assert.equal(stage.resumedAfter, 1);
  assert.deepEqual(await take(stream, 2), [1, 2]);
});

test("a ticket with a known end is replaced before it, on the open stream", async (t) => {
  let number = 0;
  const ticket = () => ({ ticket: `t${++number}`, expires_at: new Date(Date.now() + 100).toISOString() });
  const { stage } = await following(t, { ticket });
  const renewed = new Promise((resolve) => {
    const { socket } = stage;
    const send = socket.send.bind(socket);
    socket.send = (text) => (text.includes("auth") ? resolve(JSON.parse(text)) : send(text));
  });

  stage.replay(event(1));

  assert.deepEqual(await renewed, { type: "auth", token: "t2" });
  assert.equal(stage.sockets.length, 1);
});

test("a server that cannot take a new ticket on an open stream does not disturb it", async (t) => {
  const { stage, stream } = await following(t);
  stage.replay(event(1));

  stage.send({ type: "error", code: "bad_message", detail: "type: 'auth' is unknown" }, event(2));

  assert.deepEqual(await take(stream, 2), [1, 2]);
});

test("tickets that are refused again and again end the stream", async (t) => {
  let number = 0;
  const { stage, stream } = await following(t, { ticket: () => `t${++number}` });
  const ended = assert.rejects(stream.next(), (error) => error instanceof SvopsError && error.status === 401);

  for (const count of [1, 2, 3]) {
    await stage.opened(count);
    stage.close(4401);
    stream.hurry();
  }

  await ended;
  assert.equal(number, 3);
});

test("what cannot be renewed ends the stream", async (t) => {
  const { stage, stream } = await following(t, { ticket: "only" });

  stage.close(4401, "The ticket has ended.");

  await assert.rejects(stream.next(), { status: 401, message: "The ticket has ended." });
});

for (const [code, status] of [
  [4400, 400],
  [4403, 403],
  [4404, 404],
]) {
  test(`a stream that is closed with ${code} does not come back`, async (t) => {
    const { stage, stream } = await following(t);
    stage.replay(event(1));
    stage.close(code);
    stream.hurry();

    assert.deepEqual(await take(stream, 1), [1]);
    await assert.rejects(stream.next(), { status });
    assert.equal(stage.sockets.length, 1);
  });
}

test("a run that nobody knows is an error", async (t) => {
  const { stage, stream } = await following(t);

  stage.send(ready(0), { type: "error", code: "bad_message", detail: "run_id: there is no run." });

  await assert.rejects(stream.next(), { status: 404, code: "not_found", message: "run_id: there is no run." });
});

test("a source that gives no ticket is an error; one that fails is asked again", async (t) => {
  const { error } = await new Promise((resolve) => {
    const stream = followRun(RUN, { url, WebSocket: new Stage().WebSocket, ticket: async () => ({ detail: "no" }) });
    stream.next().catch((error) => resolve({ error }));
  });
  assert.match(error.message, /neither a string nor/);

  const stage = new Stage();
  const answers = [() => Promise.reject(new TypeError("fetch failed")), () => "t2"];
  const said = [];
  const stream = followRun(RUN, {
    url,
    WebSocket: stage.WebSocket,
    ticket: () => answers.shift()(),
    onConnection: (connection, error) => {
      said.push([connection, error?.message]);
      setImmediate(() => stream.hurry());
    },
  });
  t.after(() => stream.close());
  await stage.opened(1);
  assert.deepEqual(said, [["reconnecting", "fetch failed"]]);
  assert.equal(stage.ticket, "t2");
});

test("too many streams: the stream comes back after the time that the server says", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { stage } = await following(t);
  stage.send({ type: "error", code: "throttled", detail: "Too many streams.", retry_after: 40 });
  stage.close(4429);

  t.mock.timers.tick(40_000);
  await new Promise(setImmediate);
  assert.equal(stage.sockets.length, 1);
  t.mock.timers.tick(500);
  await stage.opened(2);
});

test("a server that is gone is asked again, after waits that grow, until it is there", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { stage, stream } = await following(t);
  const waits = [];
  for (const count of [2, 3, 4]) {
    stage.close(1006);
    let waited = 0;
    while (stage.sockets.length < count) {
      t.mock.timers.tick(25);
      waited += 25;
      await new Promise(setImmediate);
    }
    waits.push(waited);
  }

  assert.ok(
    waits.every((wait, index) => wait >= 250 * 2 ** index && wait <= 500 * 2 ** index + 25),
    `${waits}`,
  );
  stage.replay(event(1));
  assert.deepEqual(await take(stream, 1), [1]);
});

test("a client that was too slow comes back at once", async (t) => {
  const { stage } = await following(t);
  stage.replay(event(1));

  stage.close(4408);

  await stage.opened(2);
});

test("a connection without heartbeats is taken for dead", async (t) => {
  const { stage, stream } = await following(t);
  stage.send(ready(0, 0.004));
  await stage.opened(2);

  assert.equal(stage.sockets[0].isClosed, true);
  assert.equal(stream.connection, "reconnecting");
});

test("aborting closes the connection, and the iteration throws the reason", async (t) => {
  const giving = new AbortController();
  const { stage, stream } = await following(t, { signal: giving.signal });
  stage.replay(event(1));
  assert.deepEqual(await take(stream, 1), [1]);
  const next = stream.next();

  giving.abort();

  await assert.rejects(next, { name: "AbortError" });
  assert.equal(stage.socket.isClosed, true);
});

test("a signal that is aborted already opens nothing", async () => {
  const stage = new Stage();
  const stream = followRun(RUN, { url, WebSocket: stage.WebSocket, signal: AbortSignal.abort(), ticket: "t" });

  await assert.rejects(stream.next(), { name: "AbortError" });
  assert.equal(stage.sockets.length, 0);
});

test("leaving the loop closes the connection", async (t) => {
  const { stage, stream } = await following(t);
  stage.replay(event(1), event(2));

  for await (const { id } of stream) if (id === 1) break;

  assert.equal(stage.socket.isClosed, true);
});

test("with callbacks, events and connections come as they happen", async (t) => {
  const said = [];
  const { stage } = await following(t, {
    onEvent: ({ id }) => said.push(id),
    onConnection: (connection) => said.push(connection),
    onEnd: (error) => said.push(["end", error]),
  });

  stage.replay(event(1));
  stage.send(event(2, "workflow.stopped"));

  assert.deepEqual(said, [1, "live", 2, "ended", ["end", undefined]]);
});

test("an error in a callback ends the stream with it", async (t) => {
  const ended = new Promise((resolve) => {
    following(t, {
      onEvent() {
        throw new RangeError("mine");
      },
      onEnd: resolve,
    }).then(({ stage }) => stage.replay(event(1)));
  });

  assert.equal((await ended).message, "mine");
});

test("snapshots come at each connection and each change of the run, one at a time", async (t) => {
  const seen = [];
  const { stage } = await following(t, { onEvent() {}, onStatus: ({ cursor }) => seen.push(cursor) });
  const asked = () => stage.socket.sent.filter(({ type }) => type === "get_status").length;
  const status = (cursor) => ({ type: "status", cursor, run: { state: "running" }, tasks: [] });
  stage.send(ready(4), status(4));
  assert.equal(asked(), 1);

  stage.send({ type: "resuming", from: 0 }, event(1, "workflow.started"), event(5, "workflow.failed"));
  stage.send(event(6, "workflow.retried"), event(7, "workflow.started"));
  assert.equal(asked(), 2);
  stage.send(status(5));
  assert.equal(asked(), 3);
  stage.send(status(7));

  assert.equal(asked(), 3);
  assert.deepEqual(seen, [4, 5, 7]);
});

test("who wants snapshots gets one of the end, too", async (t) => {
  const seen = [];
  const { stage, stream } = await following(t, { onEvent() {}, onStatus: ({ run }) => seen.push(run.state) });
  stage.replay(event(1, "workflow.started"));
  stage.send(event(2, "workflow.completed"), { type: "status", cursor: 1, run: { state: "running" }, tasks: [] });
  assert.equal(stream.connection, "live");

  stage.send({ type: "status", cursor: 2, run: { state: "success" }, tasks: [] });

  assert.deepEqual(seen, ["running", "success"]);
  assert.equal(stream.connection, "ended");
});

test("events that are lost for good are an error", async (t) => {
  const { stage, stream } = await following(t, { after: 7 });

  stage.send(ready(40), { type: "recovered", recovered: false, reason: "events are no longer kept" });

  await assert.rejects(stream.next(), { status: 410, code: "cursor_gone", message: /no longer kept/ });
});

test("with onReset, a stream whose events are lost begins anew", async (t) => {
  const said = [];
  const { stage, stream } = await following(t, { after: 7, onReset: () => said.push("reset") });
  stage.send(ready(40), { type: "recovered", recovered: false, reason: "events are no longer kept" });
  await stage.opened(2);

  stage.replay(event(5));

  assert.deepEqual(said, ["reset"]);
  assert.equal(stage.resumedAfter, 0);
  assert.deepEqual(await take(stream, 1), [5]);
});

test("events that nobody takes stay at the server, and come later", async (t) => {
  const { stage, stream } = await following(t);
  const events = Array.from({ length: 6_000 }, (_, index) => event(index + 1));
  stage.replay(...events);
  assert.equal(stage.socket.isClosed, true);
  assert.equal(stream.connection, "paused");

  const first = await take(stream, 5_000);
  await stage.opened(2);
  stage.replay(...events);

  assert.equal(stage.resumedAfter, 5_000);
  assert.equal(first.at(-1), 5_000);
  assert.deepEqual(await take(stream, 1), [5_001]);
});

test("the log is followed from now on, narrowed if asked", async (t) => {
  const stage = new Stage();
  const stream = followLog({ url, WebSocket: stage.WebSocket, token: "key", workflow_id: 3 });
  t.after(() => stream.close());
  await stage.opened(1);

  stage.send(ready(40), event(41), { type: "resuming", from: 40 }, event(41), event(42, "workflow.completed"));

  assert.deepEqual(await take(stream, 2), [41, 42]);
  assert.deepEqual(stage.socket.sent, [
    { type: "subscribe", workflow_id: 3 },
    { type: "resume", after: 40 },
  ]);
});

test("without credentials the session of the page counts", async (t) => {
  const stage = new Stage();
  const stream = followLog({ url, WebSocket: stage.WebSocket });
  t.after(() => stream.close());
  await stage.opened(1);
  stage.send(ready(40), event(41));

  assert.deepEqual(stage.socket.protocols, ["svops.v1"]);
  assert.deepEqual(stage.socket.sent, []);
  assert.deepEqual(await take(stream, 1), [41]);
});
