import type { Credential } from "./credential.js";
import { SvopsError } from "./errors.js";
import type { Event, Filter, Frame, Status } from "./frames.js";
import { watchPage } from "./visibility.js";
import { waitMs } from "./waits.js";
import { type Call, type Ear, overEvents, overWebSocket, type Wire } from "./wires.js";

/** `paused`: nobody looks at the page, or nobody takes the events. `ended` is the last one. */
export type Connection = "connecting" | "live" | "reconnecting" | "paused" | "ended";

export interface Sink {
  onEvent(event: Event): void;
  onStatus?: ((status: Status) => void) | undefined;
  onConnection?: ((connection: Connection, error?: Error) => void) | undefined;
  /** The server is alive, and so is the connection. */
  onBeat?: (() => void) | undefined;
  /** Some events are lost for good: the stream begins anew. Without this, the stream ends with an error. */
  onReset?: (() => void) | undefined;
  /** All that there is now has been given. Only called while the stream is live. */
  onQuiet(): void;
  onEnd(error?: unknown): void;
}

export interface Setting {
  base: string;
  headers: () => Record<string, string>;
  credential: Credential;
  filter: Filter;
  after: number | undefined;
  transport: "websocket" | "events";
  hiddenAfter: number | false;
  fetch?: typeof fetch | undefined;
  WebSocket?: Call["WebSocket"];
}

const NOT_SIGNED_IN = 4401;
const TOO_SLOW = 4408;
const LOST = 1006;
/** After these a new attempt is useless. */
const FINAL = new Set([4400, 4403, 4404]);
const FIRST_PATIENCE_MS = 20_000;
const MISSED_HEARTBEATS = 2.5;
/** So many new secrets are refused in a row before the stream ends. */
const REFUSALS = 3;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Recovered = Extract<Frame, { type: "recovered" }>;
type Timer = ReturnType<typeof setTimeout> | undefined;

/** Reads the log over as many connections as it takes: each event once and in order. */
export class Follower implements Ear {
  connection: Connection = "connecting";
  /** The position up to which everything was given. */
  cursor: number | undefined;
  readonly #setting: Setting;
  readonly #sink: Sink;
  readonly #unwatch: () => void;
  #wire: Wire | undefined;
  /** Counts the attempts, so that what an older one brings is ignored. */
  #attempt = 0;
  #secret: string | undefined;
  #isSecretNew = false;
  #failures = 0;
  #refusals = 0;
  #isPaused = false;
  /** Whether events count: before `resuming` they come again. */
  #counts = false;
  #isLive = false;
  #isStatusComing = false;
  #error: Extract<Frame, { type: "error" }> | undefined;
  #patienceMs = FIRST_PATIENCE_MS;
  #retry: Timer;
  #watchdog: Timer;
  #renewal: Timer;

  constructor(setting: Setting, sink: Sink) {
    this.#setting = setting;
    this.#sink = sink;
    this.cursor = setting.after;
    this.#unwatch = watchPage(setting.hiddenAfter, {
      onHidden: () => this.pause(),
      onVisible: () => this.resume(),
      onOnline: () => this.hurry(),
    });
    void this.#connect();
  }

  /** Close the connection until `resume()`. */
  pause(): void {
    if (this.connection === "ended" || this.#isPaused) return;
    this.#isPaused = true;
    this.#drop();
    this.#enter("paused");
  }

  /** Go on after the last event. */
  resume(): void {
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#failures = 0;
      this.#enter("reconnecting");
      void this.#connect();
    } else this.hurry();
  }

  /** Reconnect now instead of after the wait. */
  hurry(): void {
    if (this.#retry !== undefined) void this.#connect();
  }

  get canAskStatus(): boolean {
    return Boolean(this.#setting.filter.run_id !== undefined && this.#sink.onStatus && this.#wire?.send);
  }

  /** Ask for the run and its tasks, which come to `onStatus`. */
  askStatus(): void {
    if (!this.canAskStatus || this.#isStatusComing) return;
    this.#isStatusComing = true;
    this.#wire?.send?.({ type: "get_status", run_id: this.#setting.filter.run_id });
  }

  end(error?: unknown): void {
    if (this.connection === "ended") return;
    this.#drop();
    this.#unwatch();
    this.#enter("ended", error);
    this.#sink.onEnd(error);
  }

  // --- Connecting -------------------------------------------------------------------------------

  async #connect(): Promise<void> {
    this.#drop();
    const attempt = this.#attempt;
    const before = this.#secret;
    try {
      this.#secret = await this.#setting.credential.get();
    } catch (error) {
      if (attempt === this.#attempt) this.#noSecret(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.#isSecretNew = this.#secret !== before;
    const open = this.#setting.transport === "websocket" ? overWebSocket : overEvents;
    this.#watch();
    this.#wire = open(this.#call(), this);
  }

  #call(): Call {
    const { base, credential, filter, fetch, WebSocket } = this.#setting;
    const secret = this.#secret;
    const headers = this.#setting.headers();
    if (secret !== undefined) headers.Authorization = `${credential.scheme} ${secret}`;
    return { base, headers, secret, filter, after: this.cursor, fetch, WebSocket };
  }

  #noSecret(error: unknown): void {
    const isFinal = error instanceof SvopsError && error.status >= 400 && error.status < 500 && error.status !== 429;
    // A source that gives nonsense would do so for ever; one that fails may only be offline.
    if (isFinal || (error instanceof TypeError && error.message.startsWith("The source"))) this.end(error);
    else this.#again(waitMs(this.#failures), error);
  }

  /** Forget the connection and all that waits for it. */
  #drop(): void {
    this.#attempt += 1;
    for (const timer of [this.#retry, this.#watchdog, this.#renewal]) clearTimeout(timer);
    this.#retry = this.#watchdog = this.#renewal = undefined;
    this.#isLive = this.#counts = this.#isStatusComing = false;
    this.#error = undefined;
    this.#patienceMs = FIRST_PATIENCE_MS;
    this.#wire?.close();
    this.#wire = undefined;
  }

  #again(ms: number, error?: unknown): void {
    this.#drop();
    this.#failures += 1;
    this.#retry = setTimeout(() => void this.#connect(), ms);
    this.#enter("reconnecting", error);
  }

  onClose(code: number, reason: string, retryAfter?: number): void {
    const { code: word = "closed", detail = reason || `The stream was closed with ${code}.` } = this.#error ?? {};
    const status = code >= 4000 ? code - 4000 : 0;
    const error = new SvopsError(status, { code: word, detail }, this.#error?.retry_after ?? retryAfter);
    if (FINAL.has(code)) this.end(error);
    else if (code === NOT_SIGNED_IN) this.#refused(error);
    else if (code === TOO_SLOW) this.#again(0, error);
    else this.#again((error.retryAfter ?? 0) * 1000 + waitMs(this.#failures), error);
  }

  /** The secret has ended. Or it was never good: that is found out by a few new ones. */
  #refused(error: SvopsError): void {
    const { credential } = this.#setting;
    credential.refuse(this.#secret);
    this.#refusals += this.#isSecretNew ? 1 : 0;
    if (!credential.isRenewable || this.#refusals >= REFUSALS) this.end(error);
    else this.#again(this.#refusals ? waitMs(this.#failures) : 0, error);
  }

  /** Find a dead connection by its silence. */
  #watch(): void {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.onClose(LOST, "The server is silent."), this.#patienceMs);
  }

  /** Show a new secret before the old one ends. A server that cannot take it closes the stream, and we come back. */
  #renew(): void {
    clearTimeout(this.#renewal);
    const { credential } = this.#setting;
    const left = credential.until - Date.now() + 10;
    if (!this.#wire?.send || !credential.isRenewable || left > LONGEST_TIMER_MS) return;
    const attempt = this.#attempt;
    this.#renewal = setTimeout(
      async () => {
        const secret = await credential.get().catch(() => undefined);
        if (attempt !== this.#attempt || secret === undefined || secret === this.#secret) return;
        this.#secret = secret;
        this.#wire?.send?.({ type: "auth", token: secret });
        this.#renew();
      },
      Math.max(0, left),
    );
  }

  // --- Frames -----------------------------------------------------------------------------------

  onFrame(frame: Frame): void {
    const attempt = this.#attempt;
    try {
      this.#take(frame, attempt);
      if (this.#isLive && attempt === this.#attempt) this.#sink.onQuiet();
    } catch (error) {
      this.end(error);
      return;
    }
    if (attempt === this.#attempt) this.#watch();
  }

  #take(frame: Frame, attempt: number): void {
    if ("id" in frame) this.#event(frame);
    else if (frame.type === "events") {
      for (const event of frame.events) if (attempt === this.#attempt) this.#event(event);
    } else if (frame.type === "connection.ready") this.#ready(frame);
    else if (frame.type === "resuming") this.#counts = true;
    else if (frame.type === "recovered") this.#recovered(frame);
    else if (frame.type === "heartbeat") this.#beat(frame.cursor);
    else if (frame.type === "status") this.#status(frame);
    else if (frame.type === "error") this.#complaint(frame);
  }

  #ready({ cursor, heartbeat_s }: { cursor: number; heartbeat_s: number }): void {
    this.#patienceMs = heartbeat_s * 1000 * MISSED_HEARTBEATS;
    const { filter } = this.#setting;
    const send = this.#wire?.send;
    const mayFollow = this.cursor === undefined;
    this.cursor ??= cursor;
    if (!send) {
      this.#counts = true;
      if (mayFollow) this.#live();
      return;
    }
    const isNarrowed = Object.values(filter).some((value) => value !== undefined);
    if (isNarrowed) send({ type: "subscribe", ...filter });
    this.askStatus();
    if (mayFollow && !isNarrowed) this.#live();
    else send({ type: "resume", after: this.cursor });
  }

  #live(): void {
    this.#isLive = this.#counts = true;
    this.#failures = this.#refusals = 0;
    this.#renew();
    this.#enter("live");
  }

  #status(status: Status): void {
    this.#isStatusComing = false;
    this.#sink.onStatus?.(status);
  }

  #beat(cursor: number): void {
    if (this.#isLive) this.cursor = Math.max(this.cursor ?? 0, cursor);
    this.#sink.onBeat?.();
  }

  #recovered({ recovered, reason = "the log cannot be read from this cursor" }: Recovered): void {
    if (recovered) this.#live();
    else if (this.#sink.onReset) {
      // Of a run, all that is kept comes again. The log goes on from now on.
      this.cursor = this.#setting.filter.run_id === undefined ? undefined : 0;
      this.#sink.onReset();
      if (this.connection !== "ended") void this.#connect();
    } else this.end(new SvopsError(410, { code: "cursor_gone", detail: `Some events are lost: ${reason}.` }));
  }

  #complaint(frame: Extract<Frame, { type: "error" }>): void {
    // Our messages are right, so what the server does not know is the run or the workflow.
    const isUnknown = frame.code === "bad_message" && !this.#counts;
    if (isUnknown) this.end(new SvopsError(404, { code: "not_found", detail: frame.detail }));
    else this.#error = frame;
  }

  #event(event: Event): void {
    if (!this.#counts || event.id <= (this.cursor ?? 0)) return;
    this.cursor = event.id;
    this.#failures = this.#refusals = 0;
    this.#sink.onEvent(event);
  }

  #enter(connection: Connection, error?: unknown): void {
    if (connection === this.connection && error === undefined) return;
    this.connection = connection;
    this.#sink.onConnection?.(connection, error as Error | undefined);
  }
}
