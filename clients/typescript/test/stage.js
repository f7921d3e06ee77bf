// Scripted wires: the server's side of a stream, and a real HTTP server that answers as a test says.

import { once } from "node:events";
import { createServer } from "node:http";

/** The server's side of the sockets of one stream. */
export class Stage {
  sockets = [];

  constructor() {
    const stage = this;
    this.WebSocket = class {
      readyState = 1;
      sent = [];
      isClosed = false;

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        stage.sockets.push(this);
        stage.#wake();
      }

      send(text) {
        this.sent.push(JSON.parse(text));
      }

      close() {
        this.isClosed = true;
      }
    };
  }

  #wake = () => {};

  get socket() {
    return this.sockets.at(-1);
  }

  get ticket() {
    return this.socket.protocols[1]?.replace("bearer.", "");
  }

  get resumedAfter() {
    return this.socket.sent.find(({ type }) => type === "resume")?.after;
  }

  /** Wait until the stream has opened so many sockets. */
  async opened(count) {
    while (this.sockets.length < count) {
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.socket;
  }

  send(...frames) {
    for (const frame of frames) this.socket.onmessage?.({ data: JSON.stringify(frame) });
  }

  /** Greet, and replay these events after the cursor that the client asks for. */
  replay(...events) {
    this.send(ready(0));
    const from = this.resumedAfter;
    this.send({ type: "resuming", from }, { type: "events", events });
    this.send({ type: "recovered", recovered: true, from, to: events.at(-1)?.id ?? from });
  }

  close(code, reason = "") {
    this.socket.onclose?.({ code, reason });
  }
}

export const ready = (cursor, heartbeat_s = 20) => ({ type: "connection.ready", cursor, heartbeat_s, protocol: 1 });
export const RUN = "0b5e7a52-6e62-4f4b-9f3c-0d9d1b8f1c11";

const STATES = { started: "running", completed: "success", failed: "failed", retried: "queued", stopped: "stopped" };

/** An event of the run, for example `event(3, "workflow.failed")`. */
export function event(id, type = "task.started", more = {}) {
  const state = type.startsWith("workflow.") ? STATES[type.slice(9)] : "running";
  const data = type.startsWith("workflow.") ? { state } : { state, map_index: -1, try_number: 1 };
  return { id, seq: id, type, run_id: RUN, task_id: type.startsWith("task.") ? "load" : null, data, ...more };
}

/** Take so many events. */
export async function take(following, count) {
  const taken = [];
  while (taken.length < count) taken.push((await following.next()).value.id);
  return taken;
}

export async function idsOf(following) {
  const ids = [];
  for await (const { id } of following) ids.push(id);
  return ids;
}

/** A server on a port of its own, until the test ends. `answers` are used up one by one; each gets request and answer. */
export async function serving(t, ...answers) {
  const asked = [];
  const server = createServer(async (request, answer) => {
    let text = "";
    for await (const part of request) text += part;
    const { method, url, headers } = request;
    asked.push({ method, url, headers, body: text ? JSON.parse(text) : undefined });
    const how = answers.shift();
    if (how) how(answer, request);
    else answer.writeHead(500).end();
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

export const json =
  (status, content, headers = {}) =>
  (answer) =>
    answer.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(content));
export const lost = (answer) => answer.destroy();
