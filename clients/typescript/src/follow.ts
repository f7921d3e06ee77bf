import { Credential, type Credentials } from "./credential.js";
import { type Connection, Follower } from "./follower.js";
import type { Event, Filter, Status } from "./frames.js";
import { baseOf } from "./http.js";
import { Queue } from "./queue.js";
import type { Call } from "./wires.js";

export type { Connection } from "./follower.js";
export type { Event, EventOf, Status } from "./frames.js";

export interface FollowOptions extends Credentials {
  /** Where SVOps is; in a browser, by default, where the page comes from. */
  url?: string | URL | undefined;
  /** Only events after this cursor. By default, a run is followed from its beginning, and the log from now on. */
  after?: number | undefined;
  /** Go on after the end of the run: it may be retried. */
  keepOpen?: boolean | undefined;
  /** Aborting ends the stream; the iteration then throws the reason. */
  signal?: AbortSignal | undefined;
  /** With it, events come here and not to the iteration. */
  onEvent?: ((event: Event) => void) | undefined;
  /** The run and its tasks, at each connection and each change of the run. Not with `transport: "events"`. */
  onStatus?: ((status: Status) => void) | undefined;
  onConnection?: ((connection: Connection, error?: Error) => void) | undefined;
  /** Some events are lost for good, and the stream begins anew. Without it, such a stream ends with an error. */
  onReset?: (() => void) | undefined;
  onBeat?: (() => void) | undefined;
  /** The stream has ended, by an error if there is one. */
  onEnd?: ((error?: unknown) => void) | undefined;
  /** `events` are server-sent events; the default where there is no `WebSocket`, as in Node 20. */
  transport?: "websocket" | "events" | undefined;
  /** After so many milliseconds in a hidden tab, the connection is closed until the tab is seen again. */
  hiddenAfter?: number | false | undefined;
  headers?: Record<string, string> | (() => Record<string, string>) | undefined;
  fetch?: typeof fetch | undefined;
  WebSocket?: Call["WebSocket"];
  /** That of a client, which shares it with its streams. */
  credential?: Credential | undefined;
}

/** A stream that is being followed. It can be iterated once. */
export interface Following extends AsyncIterableIterator<Event> {
  /** Where to go on later, with `after`: everything up to here was given. */
  readonly cursor: number | undefined;
  readonly connection: Connection;
  /** Reconnect now, if it waits for that. */
  hurry(): void;
  /** Ask for the run and its tasks; they come to `onStatus`. */
  askStatus(): void;
  close(): void;
}

/** So many events may wait for the iteration. Then the connection is closed until they are taken. */
const MOST_WAITING = 5_000;
const ENDED = new Set<unknown>(["success", "failed", "stopped"]);
const HIDDEN_AFTER_MS = 30_000;

/** Follow a run: every event once and in order, over lost connections and expired tickets, until the run has ended. */
export function followRun(runId: string, options: FollowOptions = {}): Following {
  return new Stream({ run_id: runId }, { ...options, after: options.after ?? 0 });
}

/** Follow everything that the credential may see. */
export function followLog(options: FollowOptions & Omit<Filter, "run_id"> = {}): Following {
  const { workflow_id, types, ...others } = options;
  return new Stream({ workflow_id, types }, { ...others, keepOpen: true });
}

class Stream implements Following {
  readonly #follower: Follower;
  readonly #queue = new Queue<Event>();
  readonly #options: FollowOptions;
  #hasEnded = false;
  /** The snapshot says that the run has ended. Its last event may not be published yet, so a heartbeat has to follow. */
  #seemsEnded = false;
  /** The last change of the run, and what the last snapshot holds, for those who want snapshots. */
  #changedAt = 0;
  #seenTo = 0;
  #given: number | undefined;
  #isFull = false;

  constructor(filter: Filter, options: FollowOptions) {
    this.#options = options;
    this.#given = options.after;
    const { signal, onStatus, onConnection, onReset } = options;
    const needsStatus = filter.run_id !== undefined && Boolean(onStatus || options.after);
    const abort = () => this.#follower.end(signal?.reason);
    this.#follower = new Follower(settingOf(filter, options), {
      onEvent: (event) => this.#take(event),
      onStatus: needsStatus ? (status) => this.#status(status) : undefined,
      onConnection,
      onReset,
      onBeat: () => {
        this.#hasEnded ||= this.#seemsEnded;
        this.#seenTo = this.#changedAt;
        options.onBeat?.();
      },
      onQuiet: () => this.#hasEnded && this.#seenTo >= this.#changedAt && !options.keepOpen && this.close(),
      onEnd: (error) => {
        signal?.removeEventListener("abort", abort);
        this.#queue.end(error);
        options.onEnd?.(error);
      },
    });
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
  }

  get cursor(): number | undefined {
    return this.#queue.size === 0 ? this.#follower.cursor : this.#given;
  }

  get connection(): Connection {
    return this.#follower.connection;
  }

  hurry(): void {
    this.#follower.hurry();
  }

  askStatus(): void {
    this.#follower.askStatus();
  }

  close(): void {
    this.#follower.end();
  }

  async next(): Promise<IteratorResult<Event, undefined>> {
    const event = await this.#queue.take();
    if (event === undefined) return { done: true, value: undefined };
    this.#given = event.id;
    if (this.#isFull && this.#queue.size === 0) {
      this.#isFull = false;
      this.#follower.resume();
    }
    return { done: false, value: event };
  }

  async return(): Promise<IteratorResult<Event, undefined>> {
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #take(event: Event): void {
    if (event.type.startsWith("workflow.") && "state" in event.data) {
      this.#hasEnded = isOver(event.data);
      this.#seemsEnded = false;
      if (this.#options.onStatus && this.#follower.canAskStatus) this.#changedAt = event.id;
      if (this.#changedAt > this.#seenTo) this.#follower.askStatus();
    }
    if (this.#options.onEvent) this.#options.onEvent(event);
    else this.#queue.put(event);
    if (this.#queue.size >= MOST_WAITING) {
      this.#isFull = true;
      this.#follower.pause();
    }
  }

  #status(status: Status): void {
    this.#seemsEnded = isOver(status.run);
    this.#seenTo = status.cursor;
    this.#options.onStatus?.(status);
    if (this.#changedAt > this.#seenTo) this.#follower.askStatus();
  }
}

/** A run is over when it has ended and its result has come, if it has one. */
function isOver({ state, result }: { state?: unknown; result?: { state?: unknown } | null }): boolean {
  return ENDED.has(state) && result?.state !== "pending";
}

function settingOf(filter: Filter, options: FollowOptions) {
  const { url, headers, credential = new Credential(options), after, fetch } = options;
  const Socket = options.WebSocket ?? globalThis.WebSocket;
  return {
    base: baseOf(url),
    headers: () => ({ ...(typeof headers === "function" ? headers() : headers) }),
    credential,
    filter,
    after,
    transport: options.transport ?? (Socket ? ("websocket" as const) : ("events" as const)),
    hiddenAfter: options.hiddenAfter ?? HIDDEN_AFTER_MS,
    fetch,
    WebSocket: Socket,
  };
}
