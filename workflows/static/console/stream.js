// The one WebSocket. It comes back by itself, with the cursor of what it has seen, and then misses nothing.

const SIGNED_OUT = 4401;
const TOO_SLOW = 4408;
// No use in trying again: the reason has to be mended first.
const FINAL = { [SIGNED_OUT]: "signed-out", 4403: "refused", 4404: "refused" };
const LONGEST_WAIT_MS = 30_000;

/**
 * Dispatches `state` (detail: connecting | live | reconnecting | signed-out | refused), `log` (detail: events, in
 * order, each once), `reset` (events were lost for good: fetch again) and `beat`.
 */
export class Stream extends EventTarget {
  #url;
  #socket = null;
  #cursor = null;
  #isCatchingUp = false;
  #failures = 0;
  #retry = null;
  #watchdog = null;
  #patienceMs = 50_000;

  constructor(url) {
    super();
    this.#url = url;
    this.state = "connecting";
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
  }

  open() {
    const address = new URL(this.#url);
    this.#isCatchingUp = this.#cursor !== null;
    // Named in the address, not in a message: nothing live can then overtake what is replayed.
    if (this.#isCatchingUp) address.searchParams.set("after", this.#cursor);
    const socket = new WebSocket(address, "svops.v1");
    this.#socket = socket;
    socket.onmessage = (message) => this.#take(JSON.parse(message.data));
    socket.onclose = (closing) => socket === this.#socket && this.#closed(closing.code);
    this.#watch();
  }

  #take(frame) {
    this.#watch();
    const take = { "connection.ready": this.#ready, heartbeat: this.#beat, recovered: this.#recovered }[frame.type];
    if (take) take.call(this, frame);
    else if (frame.type === "events") this.#tell(frame.events);
    else if (typeof frame.id === "number") this.#tell([frame]);
  }

  #ready(frame) {
    this.#failures = 0;
    this.#patienceMs = frame.heartbeat_s * 2500;
    if (this.#cursor === null) this.#cursor = frame.cursor;
    this.#enter("live");
  }

  #beat(frame) {
    // While the past is being replayed, the server's cursor is ahead of what has come.
    if (!this.#isCatchingUp) this.#cursor = Math.max(this.#cursor, frame.cursor);
    this.dispatchEvent(new Event("beat"));
  }

  #recovered(frame) {
    this.#isCatchingUp = false;
    if (frame.recovered) return;
    this.#cursor = null;
    this.dispatchEvent(new Event("reset"));
    this.#reopen();
  }

  #tell(events) {
    const fresh = events.filter((event) => event.id > this.#cursor);
    if (!fresh.length) return;
    this.#cursor = fresh.at(-1).id;
    this.dispatchEvent(new CustomEvent("log", { detail: fresh }));
  }

  #closed(code) {
    clearTimeout(this.#watchdog);
    this.#socket = null;
    if (FINAL[code]) {
      this.#enter(FINAL[code]);
      return;
    }
    this.#enter("reconnecting");
    const wait = code === TOO_SLOW ? 0 : Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#failures);
    this.#failures += 1;
    // Half of it by chance: after a restart, a thousand consoles must not come back in the same moment.
    this.#retry = setTimeout(() => this.open(), wait * (0.5 + Math.random() / 2));
  }

  #reopen() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.open();
  }

  #hurry() {
    if (this.state !== "reconnecting" || this.#socket) return;
    clearTimeout(this.#retry);
    this.open();
  }

  /** A connection that died without a word is found by its silence. */
  #watch() {
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#watchdog = setTimeout(() => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      socket.close();
      this.#closed(1006);
    }, this.#patienceMs);
  }

  #enter(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
