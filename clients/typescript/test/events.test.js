import assert from "node:assert/strict";
import { test } from "node:test";

import { followRun } from "../dist/index.js";
import { event, idsOf, json, RUN, serving } from "./stage.js";

/** Answers with these events, then `and`. */
function sent(events, and = (answer) => answer.end()) {
  return (answer) => {
    answer.writeHead(200, { "Content-Type": "text/event-stream" });
    answer.write(frame("connection.ready", { cursor: 40, heartbeat_s: 20 }));
    for (const one of events) answer.write(frame(one.type, one));
    and(answer);
  };
}

const frame = (name, content, id = content.id) =>
  `event: ${name}\n${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify({ type: name, ...content })}\n\n`;
const recovered = (answer) => answer.write(frame("recovered", { recovered: true }));

test("over server-sent events a run is followed over cuts, in the middle of a frame too, each event once", async (t) => {
  const cut = (answer) => answer.write('event: task.started\nid: 3\ndata: {"id":3,"ty', () => answer.destroy());
  const { url, asked } = await serving(
    t,
    sent([event(1), event(2)], cut),
    sent([event(3, "task.started", { note: 'é ☃ "quoted": \\n' })]),
    sent([event(4, "workflow.completed")], recovered),
  );

  const stream = followRun(RUN, { url, ticket: "t1", transport: "events" });
  const hurry = setInterval(() => stream.hurry(), 5);
  t.after(() => clearInterval(hurry));

  assert.deepEqual(await idsOf(stream), [1, 2, 3, 4]);
  assert.deepEqual(
    asked.map(({ headers }) => headers["last-event-id"]),
    ["0", "2", "3"],
  );
  assert.equal(asked[0].url, `/api/v1/events/stream?run=${RUN}`);
  assert.equal(asked[0].headers.authorization, "Ticket t1");
});

test("over server-sent events a ticket that ends is replaced", async (t) => {
  const bye = (answer) => answer.end(frame("error", { code: "not_authenticated", close_code: 4401 }));
  const { url, asked } = await serving(
    t,
    sent([event(1)], bye),
    json(401, { code: "not_authenticated", detail: "The ticket has ended." }),
    sent([event(2, "workflow.failed")], recovered),
  );
  let number = 0;

  const ids = await idsOf(followRun(RUN, { url, ticket: () => `t${++number}`, transport: "events" }));

  assert.deepEqual(ids, [1, 2]);
  assert.deepEqual(
    asked.map(({ headers }) => headers.authorization),
    ["Ticket t1", "Ticket t2", "Ticket t3"],
  );
});

test("over server-sent events a refusal ends the stream with what the server says", async (t) => {
  const { url } = await serving(t, json(404, { code: "not_found", detail: "There is no such run." }));

  const ids = idsOf(followRun(RUN, { url, token: "key", transport: "events" }));

  await assert.rejects(ids, { status: 404, message: "There is no such run." });
});

test("where there is no WebSocket, server-sent events are the transport", async (t) => {
  const { WebSocket } = globalThis;
  delete globalThis.WebSocket;
  t.after(() => WebSocket && Object.assign(globalThis, { WebSocket }));
  const { url } = await serving(t, sent([event(1, "workflow.completed")], recovered));

  assert.deepEqual(await idsOf(followRun(RUN, { url, ticket: "t" })), [1]);
});
