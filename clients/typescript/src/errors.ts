import type { components } from "./schema.js";

/** The body of every error of the API. Some errors carry more, for example the state of a run. */
export type ErrorBody = Partial<components["schemas"]["Error"]> & Record<string, unknown>;

/** A refusal of SVOps, or no answer at all. */
export class SvopsError extends Error {
  override readonly name = "SvopsError";

  constructor(
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    /** The whole body of the answer. */
    readonly body: ErrorBody,
    /** Seconds after which SVOps wants to be asked again. */
    readonly retryAfter?: number,
    options?: ErrorOptions,
  ) {
    super(body.detail || `SVOps answered ${status}.`, options);
  }

  /** For programs, for example `invalid` or `throttled`. */
  get code(): string {
    return this.body.code ?? "error";
  }

  /** The messages for each wrong field. */
  get errors(): Record<string, string[]> {
    return this.body.errors ?? {};
  }

  /** Finds the request in the logs of SVOps. */
  get requestId(): string {
    return this.body.request_id ?? "";
  }
}

/** The error for a request that got no answer. */
export function unreachable(cause: unknown): SvopsError {
  return new SvopsError(0, { code: "unreachable", detail: "SVOps does not answer." }, undefined, { cause });
}
