import assert from "node:assert/strict";
import { test } from "node:test";

import { Feed } from "../../static/console/feed.js";

const event = (id) => ({ id, type: "task.started", seq: id });
const ready = (cursor) => ({ type: "connection.ready", cursor, heartbeat_s: 20 });
const heartbeat = (cursor) => ({ type: "heartbeat", cursor });

/** A feed whose first connection is ready. */
function connected(cursor) {
  const feed = new Feed();
  feed.connect();
  feed.take(ready(cursor));
  return feed;
}

/** The ids of the events in these frames, in the order in which the feed returns them. */
function idsOf(feed, ...frames) {
  return frames.flatMap((frame) => feed.take(frame)?.events ?? []).map(({ id }) => id);
}

test("the first connection has no cursor and takes the one of the server", () => {
  const feed = new Feed();

  assert.equal(feed.connect(), null);
  assert.deepEqual(feed.take(ready(7)), { kind: "ready", heartbeatMs: 20_000 });
  assert.equal(feed.cursor, 7);
});

test("single events and frames with many come out in order, each once", () => {
  const feed = connected(7);

  const ids = idsOf(feed, event(8), { type: "events", events: [event(8), event(9), event(10)] }, event(9), event(11));

  assert.deepEqual(ids, [8, 9, 10, 11]);
  assert.equal(feed.cursor, 11);
});

test("a frame without new events is no news", () => {
  const feed = connected(7);

  assert.equal(feed.take(event(7)), null);
  assert.equal(feed.take({ type: "events", events: [] }), null);
  assert.equal(feed.take({ type: "pong" }), null);
});

test("the next connection resumes from the last event", () => {
  const feed = connected(7);
  feed.take(event(9));

  assert.equal(feed.connect(), 9);
  feed.take(ready(40));
  assert.equal(feed.cursor, 9);
});

test("a heartbeat moves the cursor past events that the user cannot see", () => {
  const feed = connected(7);

  assert.deepEqual(feed.take(heartbeat(30)), { kind: "beat" });
  assert.equal(feed.connect(), 30);
});

test("a heartbeat never moves the cursor back", () => {
  const feed = connected(7);
  feed.take(event(9));
  feed.take(heartbeat(8));

  assert.equal(feed.cursor, 9);
});

test("a heartbeat during a replay does not skip the events that are still to come", () => {
  const feed = connected(7);
  feed.connect();
  feed.take(ready(40));
  feed.take(heartbeat(40));

  assert.equal(feed.cursor, 7);
  assert.deepEqual(idsOf(feed, event(8), { type: "recovered", recovered: true, from: 7, to: 40 }), [8]);
});

test("after a complete replay heartbeats move the cursor again", () => {
  const feed = connected(7);
  feed.connect();
  feed.take({ type: "recovered", recovered: true, from: 7, to: 40 });
  feed.take(heartbeat(41));

  assert.equal(feed.cursor, 41);
});

test("a refused replay forgets the cursor, so that the next connection starts anew", () => {
  const feed = connected(7);
  feed.connect();

  assert.deepEqual(feed.take({ type: "recovered", recovered: false }), { kind: "lost" });
  assert.equal(feed.connect(), null);
});
