import assert from "node:assert/strict";
import { after, afterEach, beforeEach, test } from "node:test";
import { GlobalWindow } from "happy-dom";

const window = new GlobalWindow({ url: "https://shop.example.com" });
const { document } = window;
Object.assign(globalThis, { window, document, IS_REACT_ACT_ENVIRONMENT: true });
globalThis.navigator ??= window.navigator;
const { act, createElement: el, StrictMode } = await import("react");
const { createRoot } = await import("react-dom/client");
const { Svops } = await import("../dist/index.js");
const { RunProgress, SvopsProvider, useRun, useRuns, useTrigger } = await import("../dist/react.js");
const { event, json, RUN, ready, serving, Stage } = await import("./stage.js");

const url = "https://svops.example.com";
let root;
let place;

beforeEach(() => {
  place = document.createElement("div");
  root = createRoot(place);
});
afterEach(() => act(() => root.unmount()));
after(() => window.happyDOM.close());

const show = (...parts) => act(() => root.render(el(...parts)));
/** What happens at once and in the microtasks after it. */
const doing = (what) => act(async () => what());
const opened = (stage, count) => act(() => stage.opened(count));
const tick = () => act(() => new Promise(setImmediate));
const task = (task_id, state) => ({ task_id, map_index: -1, state, try_number: 1 });
const status = (cursor, state, ...tasks) => ({ type: "status", cursor, run: { id: RUN, state, note: "mine" }, tasks });

function Live({ id, options }) {
  const view = useRun(id, options);
  return el(RunProgress, { view, className: "bar" });
}

/** Gives what a hook returns at each render. */
function Using({ hook: useIt, see }) {
  see(useIt());
  return null;
}

function Page({ see, options }) {
  const form = useTrigger(3);
  see(form);
  return el(Live, { id: form.run?.id, options });
}

test("a run is shown live, from its snapshot on, over a lost connection, to its end", async () => {
  const stage = new Stage();
  const options = { url, ticket: () => "t1", WebSocket: stage.WebSocket };
  await show(Live, { id: RUN, options });
  await opened(stage, 1);
  const bar = place.querySelector(".bar");
  assert.equal(bar.dataset.state, "");

  await doing(() => stage.replay(event(1, "workflow.started")));
  await doing(() => stage.send(status(1, "running", task("load", "running"), task("check", null))));
  assert.equal(bar.dataset.state, "running");
  assert.equal(bar.dataset.connection, "live");
  assert.equal(bar.textContent, "0 of 2 tasks");

  await doing(() => stage.send(event(2, "task.completed", { data: task("load", "success") })));
  assert.equal(bar.textContent, "1 of 2 tasks");
  assert.equal(place.querySelector("progress").getAttribute("value"), "0.5");

  await doing(() => stage.close(4408));
  await opened(stage, 2);
  await doing(() => stage.replay(event(3, "workflow.completed")));
  await doing(() => stage.send(status(3, "success", task("load", "success"), task("check", "skipped"))));
  assert.equal(stage.resumedAfter, 2);
  assert.equal(bar.dataset.state, "success");
  assert.equal(bar.dataset.connection, "ended");
  assert.equal(place.querySelector("progress").getAttribute("value"), "1");
});

test("a new function at each render opens no new connection, and the last one is asked", async () => {
  const stage = new Stage();
  const withTicket = (ticket) => ({ url, ticket: () => ticket, WebSocket: stage.WebSocket });
  await show(Live, { id: RUN, options: withTicket("t1") });
  await opened(stage, 1);
  await show(Live, { id: RUN, options: withTicket("t2") });
  assert.equal(stage.sockets.length, 1);

  await doing(() => stage.close(4401));
  await opened(stage, 2);

  assert.equal(stage.ticket, "t2");
});

test("another run is another stream, and the first one is closed; no run is no stream", async () => {
  const stage = new Stage();
  const options = { url, ticket: "t", WebSocket: stage.WebSocket };
  await show(Live, { id: RUN, options });
  await opened(stage, 1);
  await show(Live, { id: RUN.replace("0b5e", "1c6f"), options });
  await opened(stage, 2);

  assert.equal(stage.sockets[0].isClosed, true);
  await show(Live, { id: null, options });
  assert.equal(stage.socket.isClosed, true);
  assert.equal(stage.sockets.length, 2);
});

test("in strict mode one connection stays, and leaving the page closes it", async () => {
  const stage = new Stage();
  const options = { url, ticket: "t", WebSocket: stage.WebSocket };
  await show(StrictMode, null, el(Live, { id: RUN, options }));
  await opened(stage, 1);
  await tick();
  assert.equal(stage.sockets.filter(({ isClosed }) => !isClosed).length, 1);

  await show("p");

  assert.equal(stage.sockets.filter(({ isClosed }) => !isClosed).length, 0);
});

test("an error of the stream is in the view", async () => {
  const stage = new Stage();
  const view = {};
  const options = { url, ticket: "t", WebSocket: stage.WebSocket };
  await show(Using, { hook: () => useRun(RUN, options), see: (now) => Object.assign(view, now) });
  await opened(stage, 1);

  await doing(() => stage.close(4403, "The grant was revoked."));

  assert.equal(view.connection, "ended");
  assert.equal(view.error.status, 403);
});

test("useTrigger starts one run, however often the same content is sent after an error", async () => {
  const keys = [];
  const answers = [() => Promise.reject(new Error("offline")), async () => ({ id: RUN }), async () => ({ id: "next" })];
  const starter = (input, { idempotencyKey }) => {
    keys.push(idempotencyKey);
    return answers.shift()(input);
  };
  let trigger;
  await show(Using, {
    hook: () => useTrigger(starter),
    see(now) {
      trigger = now;
    },
  });

  await doing(() => trigger.trigger({ rows: 5 }));
  assert.equal(trigger.error.message, "offline");
  assert.equal(trigger.isPending, false);
  await doing(() => trigger.trigger({ rows: 5 }));
  assert.deepEqual(trigger.run, { id: RUN });
  assert.equal(trigger.error, undefined);
  await doing(() => trigger.trigger({ rows: 5 }));

  assert.equal(keys[0], keys[1]);
  assert.notEqual(keys[1], keys[2]);
});

test("below a provider, useTrigger and useRun need only the ids", async (t) => {
  const { url: here, asked } = await serving(t, json(201, { id: RUN, state: "pending" }));
  const stage = new Stage();
  const client = new Svops({ url: here, token: "key" });
  let form;
  const see = (now) => {
    form = now;
  };
  const options = { WebSocket: stage.WebSocket };
  await show(SvopsProvider, { client }, el(Page, { see, options }));

  await doing(() => form.trigger({ parameters: { rows: 5 } }));
  await opened(stage, 1);

  assert.equal(asked[0].url, "/api/v1/workflows/3/runs");
  assert.equal(stage.ticket, "key");
  assert.equal(stage.socket.url, `${here.replace("http", "ws")}/api/v1/ws`);
});

test("useRuns lists runs, and again when one of them changes", async (t) => {
  const page = (...ids) => json(200, { results: ids.map((id) => ({ id })), next: null });
  const { url: here, asked } = await serving(t, page("a"), page("b", "a"));
  const stage = new Stage();
  globalThis.WebSocket = stage.WebSocket;
  t.after(() => delete globalThis.WebSocket);
  const client = new Svops({ url: here, token: "key" });
  const lists = [];
  const see = ({ runs, isLoading }) => lists.push([isLoading, ...runs.map(({ id }) => id)]);
  await show(Using, { hook: () => useRuns({ workflow: 3 }, { client }), see });
  // The rest happens by itself, outside of act().
  globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  while (lists.at(-1).length < 2) await new Promise(setImmediate);
  await stage.opened(1);

  stage.send(ready(7), { type: "resuming", from: 7 }, event(8, "workflow.triggered"), event(9, "workflow.started"));
  while (lists.at(-1).length < 3) await new Promise(setImmediate);

  assert.deepEqual(lists.at(0), [true]);
  assert.deepEqual(lists.at(-1), [false, "b", "a"]);
  assert.deepEqual(
    asked.map((one) => one.url),
    ["/api/v1/runs?workflow=3", "/api/v1/runs?workflow=3"],
  );
  assert.equal(stage.socket.sent[0].workflow_id, 3);
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
});
