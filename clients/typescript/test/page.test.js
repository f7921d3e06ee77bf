import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { followRun } from "../dist/index.js";
import { event, RUN, Stage, take } from "./stage.js";

/** A page that can be hidden, and whose network can come back. */
class Page extends EventTarget {
  visibilityState = "visible";

  turn(state) {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

const page = new Page();
const network = new EventTarget();

before(() => {
  globalThis.document = page;
  globalThis.addEventListener = network.addEventListener.bind(network);
  globalThis.removeEventListener = network.removeEventListener.bind(network);
});
after(() => {
  delete globalThis.document;
  delete globalThis.addEventListener;
  delete globalThis.removeEventListener;
});

function followed(t, hiddenAfter) {
  const stage = new Stage();
  const url = "https://svops.example.com";
  const stream = followRun(RUN, { url, WebSocket: stage.WebSocket, ticket: "t", hiddenAfter });
  t.after(() => {
    stream.close();
    page.turn("visible");
  });
  return { stage, stream };
}

const tick = () => new Promise(setImmediate);

test("in a hidden tab the connection is closed after a while; when it is seen again, the stream goes on", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { stage, stream } = followed(t);
  await stage.opened(1);
  stage.replay(event(1));

  page.turn("hidden");
  t.mock.timers.tick(29_000);
  assert.equal(stream.connection, "live");
  t.mock.timers.tick(1_000);
  assert.equal(stream.connection, "paused");
  assert.equal(stage.socket.isClosed, true);
  t.mock.timers.tick(3_600_000);
  await tick();
  assert.equal(stage.sockets.length, 1);

  page.turn("visible");
  await stage.opened(2);
  stage.replay(event(2));
  assert.equal(stage.resumedAfter, 1);
  assert.deepEqual(await take(stream, 2), [1, 2]);
});

test("a tab that is hidden for a moment keeps its connection", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { stage, stream } = followed(t);
  await stage.opened(1);
  stage.replay(event(1));

  page.turn("hidden");
  t.mock.timers.tick(10_000);
  page.turn("visible");
  // Under the patience for a silent server.
  t.mock.timers.tick(35_000);

  assert.equal(stream.connection, "live");
  assert.equal(stage.sockets.length, 1);
});

test("with hiddenAfter false the connection stays", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { stage, stream } = followed(t, false);
  await stage.opened(1);
  stage.replay(event(1));

  page.turn("hidden");
  t.mock.timers.tick(40_000);

  assert.equal(stream.connection, "live");
});

test("when the network is back, the stream does not wait", async (t) => {
  const { stage, stream } = followed(t);
  await stage.opened(1);
  stage.replay(event(1));
  stage.close(1006);
  assert.equal(stream.connection, "reconnecting");

  network.dispatchEvent(new Event("online"));

  await stage.opened(2);
});
