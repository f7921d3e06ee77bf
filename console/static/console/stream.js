// The one live stream of the page, by the client that SVOps offers to everybody. It reconnects by itself and resumes from
// its cursor, so that it misses no event.

import { followLog } from "./vendor/svops-client.js";

/** @typedef {"connecting" | "live" | "reconnecting" | "signed-out" | "refused"} State */

/** An event of the stream with its content. `CustomEvent` would do, but Node 18 does not have it. */
export class StreamEvent extends Event {
  /**
   * @param {string} type
   * @param {any} detail
   */
  constructor(type, detail) {
    super(type);
    this.detail = detail;
  }
}

/**
 * Dispatches `state` (detail: a `State`), `log` (detail: events in order, each once), `reset` (some events are lost:
 * fetch everything again) and `beat` (a heartbeat).
 */
export class Stream extends EventTarget {
  /** @type {State} */
  state = "connecting";
  #where;
  /** @type {Api.LogEvent[]} */
  #arrived = [];

  /** @param {{ url?: string, WebSocket?: new (url: string, protocols: string[]) => WebSocket }} [where] */
  constructor(where = {}) {
    super();
    this.#where = where;
  }

  /** Returns what closes it. */
  open() {
    return followLog({
      ...this.#where,
      // A console in the background goes on: its title and its toasts are looked at from elsewhere.
      hiddenAfter: false,
      onEvent: (event) => this.#gather(event),
      onBeat: () => this.dispatchEvent(new Event("beat")),
      onReset: () => this.dispatchEvent(new Event("reset")),
      onConnection: (connection, error) => this.#enter(connection, error),
    });
  }

  /**
   * Events that come in one frame are one `log`.
   * @param {Api.LogEvent} event
   */
  #gather(event) {
    this.#arrived.push(event);
    if (this.#arrived.length > 1) return;
    queueMicrotask(() => {
      const events = this.#arrived;
      this.#arrived = [];
      this.dispatchEvent(new StreamEvent("log", events));
    });
  }

  /**
   * @param {"connecting" | "live" | "reconnecting" | "paused" | "ended"} connection
   * @param {(Error & { status?: number }) | undefined} error
   */
  #enter(connection, error) {
    const before = this.state;
    if (connection === "ended") this.state = error?.status === 401 ? "signed-out" : "refused";
    else if (connection === "live" || connection === "reconnecting") this.state = connection;
    if (this.state !== before) this.dispatchEvent(new StreamEvent("state", this.state));
  }
}
