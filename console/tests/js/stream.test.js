import assert from "node:assert/strict";
import { test } from "node:test";

import { Stream, waitMs } from "../../static/console/stream.js";

const URL_OF_STREAM = "ws://svops.example.com/api/v1/ws";

/** A stream on scripted sockets. `said` lists what the stream has dispatched. */
class Stage {
  sockets = [];
  said = [];

  constructor(t) {
    this.stream = new Stream(URL_OF_STREAM, (address) => this.#connect(address));
    for (const type of ["state", "log", "reset", "beat"]) {
      this.stream.addEventListener(type, ({ detail }) => this.said.push(detail === undefined ? type : detail));
    }
    // A stream that has ended has no timers, and the test process can end.
    t.after(() => this.close(4401));
    this.stream.open();
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get after() {
    return this.socket.address.searchParams.get("after");
  }

  send(...frames) {
    for (const frame of frames) this.socket.onmessage({ data: JSON.stringify(frame) });
  }

  close(code) {
    this.socket.onclose({ code });
  }

  #connect(address) {
    const socket = { address, isClosed: false };
    socket.close = () => {
      socket.isClosed = true;
    };
    this.sockets.push(socket);
    return socket;
  }
}

const event = (id) => ({ id, type: "task.started" });
const ready = (cursor) => ({ type: "connection.ready", cursor, heartbeat_s: 20 });

test("a stream is live once the server is ready, and passes events and heartbeats on", (t) => {
  const stage = new Stage(t);

  stage.send(ready(7), event(8), { type: "heartbeat", cursor: 8 }, { type: "events", events: [event(9), event(10)] });

  assert.equal(stage.after, null);
  assert.deepEqual(stage.said, ["live", [event(8)], "beat", [event(9), event(10)]]);
});

test("after a lost connection the stream resumes from its last event and repeats none", (t) => {
  const stage = new Stage(t);
  stage.send(ready(7), event(8));

  stage.close(1006);
  stage.stream.hurry();
  stage.send(ready(12), event(8), event(9));

  assert.equal(stage.sockets.length, 2);
  assert.equal(stage.after, "8");
  assert.deepEqual(stage.said, ["live", [event(8)], "reconnecting", "live", [event(9)]]);
});

test("hurry opens no second connection", (t) => {
  const stage = new Stage(t);
  stage.stream.hurry();
  stage.send(ready(7));
  stage.stream.hurry();
  stage.close(1006);
  stage.stream.hurry();
  stage.stream.hurry();

  assert.equal(stage.sockets.length, 2);
});

test("a stream that was too slow reconnects at once", async (t) => {
  const stage = new Stage(t);
  stage.send(ready(7));

  stage.close(4408);
  await new Promise((resolve) => setTimeout(resolve, 20));

  assert.equal(stage.sockets.length, 2);
  assert.equal(stage.after, "7");
});

test("a stream that the server refuses does not come back", (t) => {
  const states = { 4401: "signed-out", 4403: "refused", 4404: "refused" };
  for (const [code, state] of Object.entries(states)) {
    const stage = new Stage(t);
    stage.send(ready(7));

    stage.close(Number(code));
    stage.stream.hurry();

    assert.deepEqual(stage.said, ["live", state]);
    assert.equal(stage.sockets.length, 1);
  }
});

test("when the server cannot replay all events, the stream says so and starts anew", (t) => {
  const stage = new Stage(t);
  stage.send(ready(7), event(8));
  stage.close(1006);
  stage.stream.hurry();
  const refused = stage.socket;

  stage.send(ready(40), { type: "recovered", recovered: false, reason: "events are no longer kept" });

  assert.equal(refused.isClosed, true);
  assert.equal(stage.sockets.length, 3);
  assert.equal(stage.after, null);
  assert.deepEqual(stage.said.slice(2), ["reconnecting", "live", "reset"]);
});

test("frames and closings of an old connection change nothing", (t) => {
  const stage = new Stage(t);
  stage.send(ready(7));
  const [old] = stage.sockets;
  stage.close(1006);
  stage.stream.hurry();
  stage.send(ready(7));

  old.onmessage({ data: JSON.stringify(event(8)) });
  old.onclose({ code: 4403 });

  assert.deepEqual(stage.said, ["live", "reconnecting", "live"]);
});

test("a connection without heartbeats is taken for dead", async (t) => {
  const stage = new Stage(t);
  stage.send({ ...ready(7), heartbeat_s: 0.004 });

  await new Promise((resolve) => setTimeout(resolve, 60));

  assert.equal(stage.sockets[0].isClosed, true);
  assert.deepEqual(stage.said, ["live", "reconnecting"]);
  stage.stream.hurry();
});

test("the wait before a new attempt doubles up to half a minute, and half of it is random", () => {
  assert.deepEqual(
    [0, 1, 2, 5, 6, 20].map((failures) => waitMs(failures, 1)),
    [500, 1000, 2000, 16_000, 30_000, 30_000],
  );
  assert.equal(waitMs(1, 0), 500);
});
