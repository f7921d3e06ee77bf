// The one WebSocket of the page. It reconnects by itself and resumes from its cursor, so that it misses no event.

import { Feed } from "./feed.js";

const SIGNED_OUT = 4401;
const TOO_SLOW = 4408;
const LOST_CONNECTION = 1006;
/**
 * After these codes a new attempt is useless until somebody removes the cause.
 * @type {Record<number, State>}
 */
const FINAL = { [SIGNED_OUT]: "signed-out", 4403: "refused", 4404: "refused" };
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const FIRST_PATIENCE_MS = 50_000;
const MISSED_HEARTBEATS = 2.5;

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
  #url;
  #connect;
  #feed = new Feed();
  /** @type {WebSocket | null} */
  #socket = null;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watchdog;
  #patienceMs = FIRST_PATIENCE_MS;

  /**
   * @param {string | URL} url
   * @param {(address: URL) => WebSocket} [connect]
   */
  constructor(url, connect = (address) => new WebSocket(address, "svops.v1")) {
    super();
    this.#url = url;
    this.#connect = connect;
  }

  open() {
    clearTimeout(this.#retry);
    const address = new URL(this.#url);
    const cursor = this.#feed.connect();
    // The cursor goes into the address and not into a message, so that no live event can overtake the replay.
    if (cursor !== null) address.searchParams.set("after", String(cursor));
    const socket = this.#connect(address);
    this.#socket = socket;
    socket.onmessage = (message) => socket === this.#socket && this.#take(JSON.parse(message.data));
    socket.onclose = (closing) => socket === this.#socket && this.#closed(closing.code);
    this.#watch();
  }

  /** Reconnect now instead of after the wait, for example because the network is back. */
  hurry() {
    if (this.state === "reconnecting" && !this.#socket) this.open();
  }

  /** @param {Wire.Frame} frame */
  #take(frame) {
    this.#watch();
    const news = this.#feed.take(frame);
    if (news?.kind === "ready") this.#ready(news.heartbeatMs);
    else if (news?.kind === "beat") this.dispatchEvent(new Event("beat"));
    else if (news?.kind === "events") this.dispatchEvent(new StreamEvent("log", news.events));
    else if (news?.kind === "lost") this.#startAnew();
  }

  /** @param {number} heartbeatMs */
  #ready(heartbeatMs) {
    this.#failures = 0;
    this.#patienceMs = heartbeatMs * MISSED_HEARTBEATS;
    this.#watch();
    this.#enter("live");
  }

  #startAnew() {
    this.dispatchEvent(new Event("reset"));
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.open();
  }

  /** @param {number} code */
  #closed(code) {
    clearTimeout(this.#watchdog);
    this.#socket = null;
    if (FINAL[code]) {
      this.#enter(FINAL[code]);
      return;
    }
    this.#enter("reconnecting");
    this.#retry = setTimeout(() => this.open(), code === TOO_SLOW ? 0 : waitMs(this.#failures));
    this.#failures += 1;
  }

  /** Find a dead connection by its silence. */
  #watch() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#watchdog = setTimeout(() => {
      if (!socket || socket !== this.#socket) return;
      this.#socket = null;
      socket.close();
      this.#closed(LOST_CONNECTION);
    }, this.#patienceMs);
  }

  /** @param {State} state */
  #enter(state) {
    this.state = state;
    this.dispatchEvent(new StreamEvent("state", state));
  }
}

/**
 * How long to wait before the next attempt. Half of it is random: after a restart, a thousand consoles must not
 * reconnect in the same moment.
 * @param {number} failures
 * @param {number} [random] from 0 to 1
 */
export function waitMs(failures, random = Math.random()) {
  const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
  return longest * (0.5 + random / 2);
}
