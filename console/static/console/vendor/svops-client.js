// A part of clients/typescript, bundled by scripts/vendor-client. Do not change it here.

// dist/credential.js
var USED = 0.8;
var Credential = class {
  scheme;
  isRenewable;
  #source;
  #held;
  #coming;
  constructor({ ticket, token }) {
    this.#source = ticket ?? token;
    this.scheme = ticket === void 0 ? "Bearer" : "Ticket";
    this.isRenewable = typeof this.#source === "function";
  }
  /** When the present secret should be replaced; `Infinity` if that is not known. */
  get until() {
    return this.#held?.until ?? Number.POSITIVE_INFINITY;
  }
  /** Return the secret, or undefined if there is no source. */
  async get(now = Date.now()) {
    if (this.#source === void 0)
      return void 0;
    if (this.#held && (now < this.#held.until || !this.isRenewable))
      return this.#held.value;
    this.#coming ??= this.#ask(this.#source).finally(() => {
      this.#coming = void 0;
    });
    return (await this.#coming).value;
  }
  /** Forget a secret that was refused, so that the next one is new. */
  refuse(value) {
    if (this.#held?.value === value)
      this.#held = void 0;
  }
  async #ask(source) {
    const secret = typeof source === "function" ? await source() : source;
    this.#held = read(secret, Date.now());
    return this.#held;
  }
};
function read(secret, now) {
  if (typeof secret === "string" && secret)
    return { value: secret, until: Number.POSITIVE_INFINITY };
  const given = Object(secret);
  const value = given.ticket ?? given.token;
  if (!value)
    throw new TypeError("The source of the credential gave neither a string nor { ticket } or { token }.");
  const end = given.expires_at ? Date.parse(given.expires_at) : Number.NaN;
  return { value, until: end > now ? now + (end - now) * USED : Number.POSITIVE_INFINITY };
}

// dist/errors.js
var SvopsError = class extends Error {
  status;
  body;
  retryAfter;
  name = "SvopsError";
  constructor(status, body, retryAfter2, options) {
    super(body.detail || `SVOps answered ${status}.`, options);
    this.status = status;
    this.body = body;
    this.retryAfter = retryAfter2;
  }
  /** For programs, for example `invalid` or `throttled`. */
  get code() {
    return this.body.code ?? "error";
  }
  /** The messages for each wrong field. */
  get errors() {
    return this.body.errors ?? {};
  }
  /** Finds the request in the logs of SVOps. */
  get requestId() {
    return this.body.request_id ?? "";
  }
};

// dist/visibility.js
function watchPage(hiddenAfter, watched) {
  const { document: page } = globalThis;
  let timer;
  const turned = () => {
    clearTimeout(timer);
    if (page.visibilityState !== "hidden")
      watched.onVisible();
    else if (hiddenAfter !== false)
      timer = setTimeout(watched.onHidden, hiddenAfter);
  };
  page?.addEventListener("visibilitychange", turned);
  globalThis.addEventListener?.("online", watched.onOnline);
  if (page?.visibilityState === "hidden")
    turned();
  return () => {
    clearTimeout(timer);
    page?.removeEventListener("visibilitychange", turned);
    globalThis.removeEventListener?.("online", watched.onOnline);
  };
}

// dist/waits.js
var FIRST_MS = 500;
var LONGEST_MS = 3e4;
function waitMs(failures, random = Math.random()) {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** failures) * (0.5 + random / 2);
}
function retryAfter(header, now = Date.now()) {
  if (!header)
    return void 0;
  const seconds = Number(header);
  const until = Number.isNaN(seconds) ? (Date.parse(header) - now) / 1e3 : seconds;
  return Number.isNaN(until) ? void 0 : Math.max(0, until);
}

// dist/http.js
var PREFIX = "/api/v1";
function baseOf(url) {
  const base = url ?? globalThis.location?.origin;
  if (!base)
    throw new TypeError("url: where is SVOps?");
  return String(base).replace(/\/+$/, "");
}

// dist/wires.js
var LOST = 1006;
function overWebSocket(call, ear) {
  const { base, secret, WebSocket: Socket = WebSocket } = call;
  const protocols = secret === void 0 ? ["svops.v1"] : ["svops.v1", `bearer.${secret}`];
  const socket = new Socket(`${base.replace(/^http/, "ws")}${PREFIX}/ws`, protocols);
  socket.onmessage = ({ data }) => ear.onFrame(JSON.parse(data));
  socket.onclose = ({ code, reason }) => ear.onClose(code, reason);
  return {
    send: (message) => socket.readyState === 1 && socket.send(JSON.stringify(message)),
    close() {
      socket.onmessage = socket.onclose = null;
      socket.onerror = () => void 0;
      socket.close();
    }
  };
}
function overEvents(call, ear) {
  const ending = new AbortController();
  let isOpen = true;
  const end = (code, reason = "", after) => {
    if (!isOpen)
      return;
    isOpen = false;
    ending.abort();
    ear.onClose(code, reason, after);
  };
  listen(call, ending.signal, (frame) => isOpen && ear.onFrame(frame), end).catch(() => end(LOST));
  return {
    close() {
      isOpen = false;
      ending.abort();
    }
  };
}
async function listen(call, signal, give, end) {
  const { base, headers, after, fetch: send = fetch } = call;
  const answer = await send(`${base}${PREFIX}/events/stream?${queryOf(call.filter)}`, {
    headers: {
      ...headers,
      Accept: "text/event-stream",
      ...after === void 0 ? {} : { "Last-Event-ID": `${after}` }
    },
    cache: "no-store",
    signal
  });
  if (!answer.ok || !answer.body) {
    const { detail = "" } = await answer.json().catch(() => ({}));
    const isFinal = answer.status >= 400 && answer.status < 500;
    return end(isFinal ? 4e3 + answer.status : LOST, detail, retryAfter(answer.headers.get("Retry-After")));
  }
  let rest = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const whole = (rest + part.value).split("\n\n");
    rest = whole.pop() ?? "";
    for (const text of whole)
      read2(text, give, end);
  }
  end(LOST);
}
function queryOf({ run_id, workflow_id, types = [] }) {
  const query = new URLSearchParams();
  if (run_id !== void 0)
    query.set("run", run_id);
  if (workflow_id !== void 0)
    query.set("workflow", `${workflow_id}`);
  for (const type of types)
    query.append("type", type);
  return query;
}
function read2(text, give, end) {
  const fields = Object.fromEntries(text.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  if (!fields.data)
    return;
  const frame = JSON.parse(fields.data);
  if (frame.close_code)
    end(frame.close_code, frame.detail);
  else
    give({ type: fields.event, ...frame });
}

// dist/follower.js
var NOT_SIGNED_IN = 4401;
var TOO_SLOW = 4408;
var LOST2 = 1006;
var FINAL = /* @__PURE__ */ new Set([4400, 4403, 4404]);
var FIRST_PATIENCE_MS = 2e4;
var MISSED_HEARTBEATS = 2.5;
var REFUSALS = 3;
var LONGEST_TIMER_MS = 2 ** 31 - 1;
var Follower = class {
  connection = "connecting";
  /** The position up to which everything was given. */
  cursor;
  #setting;
  #sink;
  #unwatch;
  #wire;
  /** Counts the attempts, so that what an older one brings is ignored. */
  #attempt = 0;
  #secret;
  #isSecretNew = false;
  #failures = 0;
  #refusals = 0;
  #isPaused = false;
  /** Whether events count: before `resuming` they come again. */
  #counts = false;
  #isLive = false;
  #isStatusComing = false;
  #error;
  #patienceMs = FIRST_PATIENCE_MS;
  #retry;
  #watchdog;
  #renewal;
  constructor(setting, sink) {
    this.#setting = setting;
    this.#sink = sink;
    this.cursor = setting.after;
    this.#unwatch = watchPage(setting.hiddenAfter, {
      onHidden: () => this.pause(),
      onVisible: () => this.resume(),
      onOnline: () => this.hurry()
    });
    void this.#connect();
  }
  /** Close the connection until `resume()`. */
  pause() {
    if (this.connection === "ended" || this.#isPaused)
      return;
    this.#isPaused = true;
    this.#drop();
    this.#enter("paused");
  }
  /** Go on after the last event. */
  resume() {
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#failures = 0;
      this.#enter("reconnecting");
      void this.#connect();
    } else
      this.hurry();
  }
  /** Reconnect now instead of after the wait. */
  hurry() {
    if (this.#retry !== void 0)
      void this.#connect();
  }
  get canAskStatus() {
    return Boolean(this.#setting.filter.run_id !== void 0 && this.#sink.onStatus && this.#wire?.send);
  }
  /** Ask for the run and its tasks, which come to `onStatus`. */
  askStatus() {
    if (!this.canAskStatus || this.#isStatusComing)
      return;
    this.#isStatusComing = true;
    this.#wire?.send?.({ type: "get_status", run_id: this.#setting.filter.run_id });
  }
  end(error) {
    if (this.connection === "ended")
      return;
    this.#drop();
    this.#unwatch();
    this.#enter("ended", error);
    this.#sink.onEnd(error);
  }
  // --- Connecting -------------------------------------------------------------------------------
  async #connect() {
    this.#drop();
    const attempt = this.#attempt;
    const before = this.#secret;
    try {
      this.#secret = await this.#setting.credential.get();
    } catch (error) {
      if (attempt === this.#attempt)
        this.#noSecret(error);
      return;
    }
    if (attempt !== this.#attempt)
      return;
    this.#isSecretNew = this.#secret !== before;
    const open = this.#setting.transport === "websocket" ? overWebSocket : overEvents;
    this.#watch();
    this.#wire = open(this.#call(), this);
  }
  #call() {
    const { base, credential, filter, fetch: fetch2, WebSocket: WebSocket2 } = this.#setting;
    const secret = this.#secret;
    const headers = this.#setting.headers();
    if (secret !== void 0)
      headers.Authorization = `${credential.scheme} ${secret}`;
    return { base, headers, secret, filter, after: this.cursor, fetch: fetch2, WebSocket: WebSocket2 };
  }
  #noSecret(error) {
    const isFinal = error instanceof SvopsError && error.status >= 400 && error.status < 500 && error.status !== 429;
    if (isFinal || error instanceof TypeError && error.message.startsWith("The source"))
      this.end(error);
    else
      this.#again(waitMs(this.#failures), error);
  }
  /** Forget the connection and all that waits for it. */
  #drop() {
    this.#attempt += 1;
    for (const timer of [this.#retry, this.#watchdog, this.#renewal])
      clearTimeout(timer);
    this.#retry = this.#watchdog = this.#renewal = void 0;
    this.#isLive = this.#counts = this.#isStatusComing = false;
    this.#error = void 0;
    this.#patienceMs = FIRST_PATIENCE_MS;
    this.#wire?.close();
    this.#wire = void 0;
  }
  #again(ms, error) {
    this.#drop();
    this.#failures += 1;
    this.#retry = setTimeout(() => void this.#connect(), ms);
    this.#enter("reconnecting", error);
  }
  onClose(code, reason, retryAfter2) {
    const { code: word = "closed", detail = reason || `The stream was closed with ${code}.` } = this.#error ?? {};
    const status = code >= 4e3 ? code - 4e3 : 0;
    const error = new SvopsError(status, { code: word, detail }, this.#error?.retry_after ?? retryAfter2);
    if (FINAL.has(code))
      this.end(error);
    else if (code === NOT_SIGNED_IN)
      this.#refused(error);
    else if (code === TOO_SLOW)
      this.#again(0, error);
    else
      this.#again((error.retryAfter ?? 0) * 1e3 + waitMs(this.#failures), error);
  }
  /** The secret has ended. Or it was never good: that is found out by a few new ones. */
  #refused(error) {
    const { credential } = this.#setting;
    credential.refuse(this.#secret);
    this.#refusals += this.#isSecretNew ? 1 : 0;
    if (!credential.isRenewable || this.#refusals >= REFUSALS)
      this.end(error);
    else
      this.#again(this.#refusals ? waitMs(this.#failures) : 0, error);
  }
  /** Find a dead connection by its silence. */
  #watch() {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.onClose(LOST2, "The server is silent."), this.#patienceMs);
  }
  /** Show a new secret before the old one ends. A server that cannot take it closes the stream, and we come back. */
  #renew() {
    clearTimeout(this.#renewal);
    const { credential } = this.#setting;
    const left = credential.until - Date.now() + 10;
    if (!this.#wire?.send || !credential.isRenewable || left > LONGEST_TIMER_MS)
      return;
    const attempt = this.#attempt;
    this.#renewal = setTimeout(async () => {
      const secret = await credential.get().catch(() => void 0);
      if (attempt !== this.#attempt || secret === void 0 || secret === this.#secret)
        return;
      this.#secret = secret;
      this.#wire?.send?.({ type: "auth", token: secret });
      this.#renew();
    }, Math.max(0, left));
  }
  // --- Frames -----------------------------------------------------------------------------------
  onFrame(frame) {
    const attempt = this.#attempt;
    try {
      this.#take(frame, attempt);
      if (this.#isLive && attempt === this.#attempt)
        this.#sink.onQuiet();
    } catch (error) {
      this.end(error);
      return;
    }
    if (attempt === this.#attempt)
      this.#watch();
  }
  #take(frame, attempt) {
    if ("id" in frame)
      this.#event(frame);
    else if (frame.type === "events") {
      for (const event of frame.events)
        if (attempt === this.#attempt)
          this.#event(event);
    } else if (frame.type === "connection.ready")
      this.#ready(frame);
    else if (frame.type === "resuming")
      this.#counts = true;
    else if (frame.type === "recovered")
      this.#recovered(frame);
    else if (frame.type === "heartbeat")
      this.#beat(frame.cursor);
    else if (frame.type === "status")
      this.#status(frame);
    else if (frame.type === "error")
      this.#complaint(frame);
  }
  #ready({ cursor, heartbeat_s }) {
    this.#patienceMs = heartbeat_s * 1e3 * MISSED_HEARTBEATS;
    const { filter } = this.#setting;
    const send = this.#wire?.send;
    const mayFollow = this.cursor === void 0;
    this.cursor ??= cursor;
    if (!send) {
      this.#counts = true;
      if (mayFollow)
        this.#live();
      return;
    }
    const isNarrowed = Object.values(filter).some((value) => value !== void 0);
    if (isNarrowed)
      send({ type: "subscribe", ...filter });
    this.askStatus();
    if (mayFollow && !isNarrowed)
      this.#live();
    else
      send({ type: "resume", after: this.cursor });
  }
  #live() {
    this.#isLive = this.#counts = true;
    this.#failures = this.#refusals = 0;
    this.#renew();
    this.#enter("live");
  }
  #status(status) {
    this.#isStatusComing = false;
    this.#sink.onStatus?.(status);
  }
  #beat(cursor) {
    if (this.#isLive)
      this.cursor = Math.max(this.cursor ?? 0, cursor);
    this.#sink.onBeat?.();
  }
  #recovered({ recovered, reason = "the log cannot be read from this cursor" }) {
    if (recovered)
      this.#live();
    else if (this.#sink.onReset) {
      this.cursor = this.#setting.filter.run_id === void 0 ? void 0 : 0;
      this.#sink.onReset();
      if (this.connection !== "ended")
        void this.#connect();
    } else
      this.end(new SvopsError(410, { code: "cursor_gone", detail: `Some events are lost: ${reason}.` }));
  }
  #complaint(frame) {
    const isUnknown = frame.code === "bad_message" && !this.#counts;
    if (isUnknown)
      this.end(new SvopsError(404, { code: "not_found", detail: frame.detail }));
    else
      this.#error = frame;
  }
  #event(event) {
    if (!this.#counts || event.id <= (this.cursor ?? 0))
      return;
    this.cursor = event.id;
    this.#failures = this.#refusals = 0;
    this.#sink.onEvent(event);
  }
  #enter(connection, error) {
    if (connection === this.connection && error === void 0)
      return;
    this.connection = connection;
    this.#sink.onConnection?.(connection, error);
  }
};

// dist/queue.js
var Queue = class {
  #waiting = [];
  #end;
  #wake;
  get size() {
    return this.#waiting.length;
  }
  put(item) {
    this.#waiting.push(item);
    this.#wake?.();
  }
  /** After what was put, taking gives undefined, or throws the error. */
  end(error) {
    this.#end = error === void 0 ? {} : { error };
    this.#wake?.();
  }
  async take() {
    while (this.#waiting.length === 0) {
      if (this.#end && "error" in this.#end)
        throw this.#end.error;
      if (this.#end)
        return void 0;
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#waiting.shift();
  }
};

// dist/follow.js
var MOST_WAITING = 5e3;
var ENDED = /* @__PURE__ */ new Set(["success", "failed", "stopped"]);
var HIDDEN_AFTER_MS = 3e4;
function followLog(options = {}) {
  const { workflow_id, types, ...others } = options;
  return new Stream({ workflow_id, types }, { ...others, keepOpen: true });
}
var Stream = class {
  #follower;
  #queue = new Queue();
  #options;
  #hasEnded = false;
  /** The snapshot says that the run has ended. Its last event may not be published yet, so a heartbeat has to follow. */
  #seemsEnded = false;
  /** The last change of the run, and what the last snapshot holds, for those who want snapshots. */
  #changedAt = 0;
  #seenTo = 0;
  #given;
  #isFull = false;
  constructor(filter, options) {
    this.#options = options;
    this.#given = options.after;
    const { signal, onStatus, onConnection, onReset } = options;
    const needsStatus = filter.run_id !== void 0 && Boolean(onStatus || options.after);
    const abort = () => this.#follower.end(signal?.reason);
    this.#follower = new Follower(settingOf(filter, options), {
      onEvent: (event) => this.#take(event),
      onStatus: needsStatus ? (status) => this.#status(status) : void 0,
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
      }
    });
    signal?.addEventListener("abort", abort);
    if (signal?.aborted)
      abort();
  }
  get cursor() {
    return this.#queue.size === 0 ? this.#follower.cursor : this.#given;
  }
  get connection() {
    return this.#follower.connection;
  }
  hurry() {
    this.#follower.hurry();
  }
  askStatus() {
    this.#follower.askStatus();
  }
  close() {
    this.#follower.end();
  }
  async next() {
    const event = await this.#queue.take();
    if (event === void 0)
      return { done: true, value: void 0 };
    this.#given = event.id;
    if (this.#isFull && this.#queue.size === 0) {
      this.#isFull = false;
      this.#follower.resume();
    }
    return { done: false, value: event };
  }
  async return() {
    this.close();
    return { done: true, value: void 0 };
  }
  [Symbol.asyncIterator]() {
    return this;
  }
  #take(event) {
    if (event.type.startsWith("workflow.") && "state" in event.data) {
      this.#hasEnded = isOver(event.data);
      this.#seemsEnded = false;
      if (this.#options.onStatus && this.#follower.canAskStatus)
        this.#changedAt = event.id;
      if (this.#changedAt > this.#seenTo)
        this.#follower.askStatus();
    }
    if (this.#options.onEvent)
      this.#options.onEvent(event);
    else
      this.#queue.put(event);
    if (this.#queue.size >= MOST_WAITING) {
      this.#isFull = true;
      this.#follower.pause();
    }
  }
  #status(status) {
    this.#seemsEnded = isOver(status.run);
    this.#seenTo = status.cursor;
    this.#options.onStatus?.(status);
    if (this.#changedAt > this.#seenTo)
      this.#follower.askStatus();
  }
};
function isOver({ state, result }) {
  return ENDED.has(state) && result?.state !== "pending";
}
function settingOf(filter, options) {
  const { url, headers, credential = new Credential(options), after, fetch: fetch2 } = options;
  const Socket = options.WebSocket ?? globalThis.WebSocket;
  return {
    base: baseOf(url),
    headers: () => ({ ...typeof headers === "function" ? headers() : headers }),
    credential,
    filter,
    after,
    transport: options.transport ?? (Socket ? "websocket" : "events"),
    hiddenAfter: options.hiddenAfter ?? HIDDEN_AFTER_MS,
    fetch: fetch2,
    WebSocket: Socket
  };
}
export {
  followLog
};
