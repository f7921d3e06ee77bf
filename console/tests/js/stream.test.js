// What the client does by itself (waits, dead connections, cursors) is tested in clients/typescript.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Stream } from "../../static/console/stream.js";

/** A stream on scripted sockets. `said` lists what the stream has dispatched. */
class Stage {
  sockets = [];
  said = [];
  #opened = () => {};

  constructor(t) {
    const stage = this;
    const WebSocket = class {
      readyState = 1;
      sent = [];

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        stage.sockets.push(this);
        stage.#opened();
      }

      send(text) {
        this.sent.push(JSON.parse(text));
      }

      close() {}
    };
    this.stream = new Stream({ url: "https://svops.example.com", WebSocket });
    for (const type of ["state", "log", "reset", "beat"]) {
      this.stream.addEventListener(type, ({ detail }) => this.said.push(detail === undefined ? type : detail));
    }
    const following = this.stream.open();
    t.after(() => following.close());
  }

  get socket() {
    return this.sockets.at(-1);
  }

  async opened(count) {
    while (this.sockets.length < count) {
      await new Promise((resolve) => {
        this.#opened = resolve;
      });
    }
  }

  /** Send frames, and wait until the page has been told of each. */
  async send(...frames) {
    for (const frame of frames) {
      this.socket.onmessage?.({ data: JSON.stringify(frame) });
      await Promise.resolve();
    }
  }

  close(code) {
    this.socket.onclose({ code, reason: "" });
  }
}

const event = (id) => ({ id, type: "task.started", data: {} });
const ready = (cursor) => ({ type: "connection.ready", cursor, heartbeat_s: 20 });

test("a stream is live once the server is ready, and passes events and heartbeats on", async (t) => {
  const stage = new Stage(t);
  await stage.opened(1);

  await stage.send(ready(7), event(8), { type: "heartbeat", cursor: 8 });
  await stage.send({ type: "events", events: [event(9), event(10)] });

  assert.equal(stage.socket.url, "wss://svops.example.com/api/v1/ws");
  assert.deepEqual(stage.socket.protocols, ["svops.v1"]);
  assert.deepEqual(stage.socket.sent, []);
  assert.deepEqual(stage.said, ["live", [event(8)], "beat", [event(9), event(10)]]);
});

test("after a lost connection the stream resumes from its last event and repeats none", async (t) => {
  const stage = new Stage(t);
  await stage.opened(1);
  await stage.send(ready(7), event(8));
  stage.close(4408);
  await stage.opened(2);

  await stage.send(ready(12), { type: "resuming", from: 8 }, event(8), event(9));
  await stage.send({ type: "recovered", recovered: true, from: 8, to: 12 });

  assert.deepEqual(stage.socket.sent, [{ type: "resume", after: 8 }]);
  assert.deepEqual(stage.said, ["live", [event(8)], "reconnecting", [event(9)], "live"]);
});

test("a stream that the server refuses does not come back", async (t) => {
  const states = { 4401: "signed-out", 4403: "refused", 4404: "refused" };
  for (const [code, state] of Object.entries(states)) {
    const stage = new Stage(t);
    await stage.opened(1);
    await stage.send(ready(7));

    stage.close(Number(code));

    assert.deepEqual(stage.said, ["live", state]);
    assert.equal(stage.stream.state, state);
  }
});

test("when the server cannot replay all events, the stream says so and starts anew", async (t) => {
  const stage = new Stage(t);
  await stage.opened(1);
  await stage.send(ready(7), event(8));
  stage.close(4408);
  await stage.opened(2);

  await stage.send(ready(40), { type: "recovered", recovered: false, reason: "events are no longer kept" });
  await stage.opened(3);
  await stage.send(ready(40), event(41));

  assert.deepEqual(stage.socket.sent, []);
  assert.deepEqual(stage.said.slice(2), ["reconnecting", "reset", "live", [event(41)]]);
});
