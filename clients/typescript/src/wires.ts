import type { Filter, Frame } from "./frames.js";
import { PREFIX } from "./http.js";
import { retryAfter } from "./waits.js";

/** One connection. Its ends are told by `onClose` once, unless `close()` was called. */
export interface Wire {
  /** Absent if the transport only listens: then the address has the filter and the cursor. */
  send?: (message: object) => void;
  close(): void;
}

export interface Ear {
  onFrame(frame: Frame): void;
  /** The close codes of the WebSocket, also for server-sent events. */
  onClose(code: number, reason: string, retryAfter?: number): void;
}

export interface Call {
  base: string;
  headers: Record<string, string>;
  secret: string | undefined;
  filter: Filter;
  after: number | undefined;
  fetch?: typeof fetch | undefined;
  WebSocket?: (new (url: string, protocols: string[]) => WebSocket) | undefined;
}

const LOST = 1006;

/** Open a WebSocket. The secret is a sub-protocol: browsers can set no header, and URLs end up in logs. */
export function overWebSocket(call: Call, ear: Ear): Wire {
  const { base, secret, WebSocket: Socket = WebSocket } = call;
  const protocols = secret === undefined ? ["svops.v1"] : ["svops.v1", `bearer.${secret}`];
  const socket = new Socket(`${base.replace(/^http/, "ws")}${PREFIX}/ws`, protocols);
  socket.onmessage = ({ data }) => ear.onFrame(JSON.parse(data));
  socket.onclose = ({ code, reason }) => ear.onClose(code, reason);
  return {
    send: (message) => socket.readyState === 1 && socket.send(JSON.stringify(message)),
    close() {
      socket.onmessage = socket.onclose = null;
      // A socket that is still connecting says so as an error, which is no news.
      socket.onerror = () => undefined;
      socket.close();
    },
  };
}

/** Read server-sent events. `EventSource` could set no header. */
export function overEvents(call: Call, ear: Ear): Wire {
  const ending = new AbortController();
  let isOpen = true;
  const end = (code: number, reason = "", after?: number) => {
    if (!isOpen) return;
    isOpen = false;
    ending.abort();
    ear.onClose(code, reason, after);
  };
  listen(call, ending.signal, (frame) => isOpen && ear.onFrame(frame), end).catch(() => end(LOST));
  return {
    close() {
      isOpen = false;
      ending.abort();
    },
  };
}

type End = (code: number, reason?: string, after?: number) => void;

async function listen(call: Call, signal: AbortSignal, give: (frame: Frame) => void, end: End): Promise<void> {
  const { base, headers, after, fetch: send = fetch } = call;
  const answer = await send(`${base}${PREFIX}/events/stream?${queryOf(call.filter)}`, {
    headers: {
      ...headers,
      Accept: "text/event-stream",
      ...(after === undefined ? {} : { "Last-Event-ID": `${after}` }),
    },
    cache: "no-store",
    signal,
  });
  if (!answer.ok || !answer.body) {
    const { detail = "" } = await answer.json().catch(() => ({}));
    const isFinal = answer.status >= 400 && answer.status < 500;
    return end(isFinal ? 4000 + answer.status : LOST, detail, retryAfter(answer.headers.get("Retry-After")));
  }
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const whole = (rest + part.value).split("\n\n");
    rest = whole.pop() ?? "";
    for (const text of whole) read(text, give, end);
  }
  end(LOST);
}

function queryOf({ run_id, workflow_id, types = [] }: Filter): URLSearchParams {
  const query = new URLSearchParams();
  if (run_id !== undefined) query.set("run", run_id);
  if (workflow_id !== undefined) query.set("workflow", `${workflow_id}`);
  for (const type of types) query.append("type", type);
  return query;
}

function read(text: string, give: (frame: Frame) => void, end: End): void {
  const fields = Object.fromEntries(text.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  if (!fields.data) return;
  const frame = JSON.parse(fields.data);
  if (frame.close_code) end(frame.close_code, frame.detail);
  else give({ type: fields.event, ...frame });
}
