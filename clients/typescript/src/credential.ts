/** A ticket, access token or API key. An answer of `POST /tickets` can be passed on as it is. */
export type Secret = string | { ticket: string; expires_at?: string } | { token: string; expires_at?: string };

/** A secret, or a function that gets one: from your back end, for example. It is asked again when the secret ends. */
export type Source = Secret | (() => Secret | Promise<Secret>);

export interface Credentials {
  /** For one run: what a browser should have. */
  ticket?: Source | undefined;
  /** An access token or an API key. */
  token?: Source | undefined;
}

interface Held {
  value: string;
  /** When to get another one, in milliseconds of the clock. */
  until: number;
}

/** Part of its life after which a secret is replaced. */
const USED = 0.8;

/** Keeps a secret for as long as it is good. Without a source there is none: the session cookie must do. */
export class Credential {
  readonly scheme: "Ticket" | "Bearer";
  readonly isRenewable: boolean;
  readonly #source: Source | undefined;
  #held: Held | undefined;
  #coming: Promise<Held> | undefined;

  constructor({ ticket, token }: Credentials) {
    this.#source = ticket ?? token;
    this.scheme = ticket === undefined ? "Bearer" : "Ticket";
    this.isRenewable = typeof this.#source === "function";
  }

  /** When the present secret should be replaced; `Infinity` if that is not known. */
  get until(): number {
    return this.#held?.until ?? Number.POSITIVE_INFINITY;
  }

  /** Return the secret, or undefined if there is no source. */
  async get(now = Date.now()): Promise<string | undefined> {
    if (this.#source === undefined) return undefined;
    if (this.#held && (now < this.#held.until || !this.isRenewable)) return this.#held.value;
    this.#coming ??= this.#ask(this.#source).finally(() => {
      this.#coming = undefined;
    });
    return (await this.#coming).value;
  }

  /** Forget a secret that was refused, so that the next one is new. */
  refuse(value: string | undefined): void {
    if (this.#held?.value === value) this.#held = undefined;
  }

  async #ask(source: Source): Promise<Held> {
    const secret = typeof source === "function" ? await source() : source;
    this.#held = read(secret, Date.now());
    return this.#held;
  }
}

function read(secret: Secret, now: number): Held {
  if (typeof secret === "string" && secret) return { value: secret, until: Number.POSITIVE_INFINITY };
  const given = Object(secret) as { ticket?: string; token?: string; expires_at?: string };
  const value = given.ticket ?? given.token;
  if (!value) throw new TypeError("The source of the credential gave neither a string nor { ticket } or { token }.");
  const end = given.expires_at ? Date.parse(given.expires_at) : Number.NaN;
  return { value, until: end > now ? now + (end - now) * USED : Number.POSITIVE_INFINITY };
}
