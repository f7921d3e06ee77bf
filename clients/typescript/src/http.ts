import { Credential, type Credentials } from "./credential.js";
import { type ErrorBody, SvopsError, unreachable } from "./errors.js";
import { pause, retryAfter, waitMs } from "./waits.js";

export const PREFIX = "/api/v1";

export interface HttpOptions extends Credentials {
  /** Where SVOps is, for example `https://svops.example.com`; in a browser, by default, where the page comes from. */
  url?: string | URL | undefined;
  /** Further headers of every request. */
  headers?: Record<string, string> | (() => Record<string, string>) | undefined;
  /** How often a request that may be repeated is repeated. */
  retries?: number | undefined;
  /** A longer `Retry-After` is not waited for: the error says when to come back. */
  longestWait?: number | undefined;
  /** Seconds after which an answer counts as lost. */
  timeout?: number | undefined;
  fetch?: typeof fetch | undefined;
}

export interface Sending {
  method: string;
  path: string;
  query?: object | undefined;
  body?: unknown;
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | null | undefined;
}

export function baseOf(url: string | URL | undefined): string {
  const base = url ?? globalThis.location?.origin;
  if (!base) throw new TypeError("url: where is SVOps?");
  return String(base).replace(/\/+$/, "");
}

/** Sends requests with the credential, and again as long as that is safe. */
export class Http {
  readonly base: string;
  readonly credential: Credential;
  readonly #options: HttpOptions;

  constructor(options: HttpOptions) {
    this.base = baseOf(options.url);
    this.credential = new Credential(options);
    this.#options = options;
  }

  /** Return the content of the answer. Throws a `SvopsError`. */
  async send(sending: Sending): Promise<unknown> {
    let isNew = false;
    for (let failures = 0; ; failures += 1) {
      const secret = await this.credential.get();
      const outcome = await this.#once(sending, secret);
      if (!(outcome instanceof SvopsError)) return outcome;
      if (outcome.status === 401 && this.credential.isRenewable && !isNew) {
        this.credential.refuse(secret);
        isNew = true;
        continue;
      }
      const wait = outcome.code === "preparing" ? outcome.retryAfter : this.#wait(outcome, sending, failures);
      if (wait === undefined) throw outcome;
      await pause(wait * 1000, sending.signal);
    }
  }

  /** Return after how many seconds the request may be sent again, or undefined if it may not. */
  #wait(error: SvopsError, { method, headers }: Sending, failures: number): number | undefined {
    const { retries = 3, longestWait = 60 } = this.#options;
    if (failures >= retries) return undefined;
    const isSafe = method === "GET" || headers?.["Idempotency-Key"] !== undefined;
    // SVOps counts before it does anything, so a request that is one too many has changed nothing.
    if (error.status !== 429 && !(isSafe && [0, 502, 503, 504].includes(error.status))) return undefined;
    if (error.retryAfter === undefined) return waitMs(failures) / 1000;
    return error.retryAfter > longestWait ? undefined : error.retryAfter + Math.random() / 4;
  }

  async #once(sending: Sending, secret: string | undefined): Promise<unknown> {
    const { fetch: send = fetch, timeout = 60 } = this.#options;
    const signals = [sending.signal, AbortSignal.timeout(timeout * 1000)].filter((one) => one instanceof AbortSignal);
    let answer: Response;
    try {
      answer = await send(this.addressOf(sending.path, sending.query), {
        method: sending.method,
        headers: this.headersOf(sending, secret),
        body: sending.body === undefined ? null : JSON.stringify(sending.body),
        signal: AbortSignal.any(signals),
      });
      if (answer.status === 204) return undefined;
      const content: unknown = await answer.json().catch((error) => (answer.ok ? Promise.reject(error) : {}));
      const body = content as ErrorBody;
      if (answer.ok && !(answer.status === 202 && body?.code === "preparing")) return content;
      return new SvopsError(answer.status, body, retryAfter(answer.headers.get("Retry-After")));
    } catch (error) {
      sending.signal?.throwIfAborted();
      return unreachable(error);
    }
  }

  headersOf({ body, headers }: Pick<Sending, "body" | "headers">, secret: string | undefined): Record<string, string> {
    const { headers: more } = this.#options;
    return {
      Accept: "application/json",
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(secret === undefined ? {} : { Authorization: `${this.credential.scheme} ${secret}` }),
      ...(typeof more === "function" ? more() : more),
      ...headers,
    };
  }

  /** The address of a path of the API, or of a link of a list. The host of a link may be another one, behind a proxy. */
  addressOf(path: string, query: object = {}): string {
    const from = new URL(path.startsWith("/") ? PREFIX + path : path, `${this.base}/`);
    const address = new URL(this.base + from.pathname + from.search);
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== undefined && one !== null) address.searchParams.append(name, String(one));
      }
    }
    return address.href;
  }
}

/** Put values into `/workflows/{id}`. */
export function filled(template: string, values: object = {}): string {
  const given = new Map<string, unknown>(Object.entries(values));
  return template.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (!given.has(name)) throw new TypeError(`path.${name} is missing`);
    return encodeURIComponent(String(given.get(name)));
  });
}

/** A key for `Idempotency-Key`. Not `crypto.randomUUID()`, which browsers offer over HTTPS only. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
}
