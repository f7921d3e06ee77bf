import { type Following, type FollowOptions, followLog, followRun } from "./follow.js";
import { filled, Http, type HttpOptions, newKey } from "./http.js";
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];
export type Run = Schemas["Run"];
export type RunDetail = Schemas["RunDetail"];
export type ListedRun = Schemas["ListedRun"];
export type Workflow = Schemas["Workflow"];
export type Task = Schemas["Task"];
export type TriggerInput<P = Record<string, unknown>> = Omit<Schemas["TriggerRequest"], "parameters"> & {
  parameters?: P;
};

type Method = "get" | "post" | "patch" | "delete";
type Operation<P, M extends Method> = P extends keyof paths ? (M extends keyof paths[P] ? paths[P][M] : never) : never;
/** The paths that know a method, without the `/api/v1` at their beginning. */
export type PathOf<M extends Method> = {
  [P in keyof paths]: [Exclude<Operation<P, M>, undefined>] extends [never] ? never : Short<P>;
}[keyof paths];
type Short<P> = P extends `/api/v1${infer Rest}` ? Rest : never;
type Of<P extends string, M extends Method> = Operation<`/api/v1${P}`, M>;

type Loose<T> = { [K in keyof T]: T[K] extends string ? T[K] | number : T[K] extends number ? T[K] | string : T[K] };
type Part<Name extends string, T> = [T] extends [undefined]
  ? { [K in Name]?: undefined }
  : undefined extends T
    ? { [K in Name]?: T }
    : { [K in Name]: T };
type PathPart<Op> = Op extends { parameters: { path: infer T } } ? { path: Loose<T> } : { path?: undefined };
type QueryPart<Op> = Op extends { parameters: { query?: infer T } } ? Part<"query", T | undefined> : { query?: never };
type BodyPart<Op> = Op extends { requestBody: { content: { "application/json": infer T } } }
  ? { body: T }
  : Op extends { requestBody?: infer B }
    ? { body?: B extends { content: { "application/json": infer T } } ? T : undefined }
    : { body?: undefined };

export interface Common {
  headers?: Record<string, string>;
  signal?: AbortSignal | null;
  /** For a trigger; by default a new one for each call. */
  idempotencyKey?: string;
}
export type Asking<Op> = PathPart<Op> & QueryPart<Op> & BodyPart<Op> & Common;
type Untyped = Common & { path?: object | undefined; query?: object | undefined; body?: unknown };
type Args<T> = Partial<T> extends T ? [asking?: T] : [asking: T];

type Content<T> = T extends { content: { "application/json": infer C } } ? C : undefined;
/** What an operation answers if it succeeds. */
export type Answer<Op> = Op extends { responses: infer R }
  ? Exclude<
      { [S in keyof R]: S extends 200 | 201 | 202 | 204 ? Content<R[S]> : never }[keyof R],
      Schemas["LogPreparing"]
    >
  : never;

/** What is in a list. */
export type Item<Op> = Answer<Op> extends { results: (infer T)[] } ? T : never;
type ListPath = { [P in PathOf<"get">]: [Item<Of<P, "get">>] extends [never] ? never : P }[PathOf<"get">];

const TRIGGERS = /\/runs(\/batch)?$/;

/** The REST API and the live streams of one SVOps, with one credential. */
export class Svops {
  readonly #http: Http;
  readonly #options: HttpOptions;

  constructor(options: HttpOptions = {}) {
    this.#options = options;
    this.#http = new Http(options);
  }

  get<P extends PathOf<"get">>(path: P, ...args: Args<Asking<Of<P, "get">>>): Promise<Answer<Of<P, "get">>> {
    return this.#send("GET", path, args[0]);
  }

  post<P extends PathOf<"post">>(path: P, ...args: Args<Asking<Of<P, "post">>>): Promise<Answer<Of<P, "post">>> {
    return this.#send("POST", path, args[0]);
  }

  patch<P extends PathOf<"patch">>(path: P, ...args: Args<Asking<Of<P, "patch">>>): Promise<Answer<Of<P, "patch">>> {
    return this.#send("PATCH", path, args[0]);
  }

  delete<P extends PathOf<"delete">>(
    path: P,
    ...args: Args<Asking<Of<P, "delete">>>
  ): Promise<Answer<Of<P, "delete">>> {
    return this.#send("DELETE", path, args[0]);
  }

  /** Yield everything in a list, page after page. */
  async *list<P extends ListPath>(path: P, ...args: Args<Asking<Of<P, "get">>>): AsyncGenerator<Item<Of<P, "get">>> {
    type Page = { results: Item<Of<P, "get">>[]; next?: string | null };
    let page = await this.#send<Page>("GET", path, args[0]);
    yield* page.results;
    while (page.next) {
      page = (await this.#http.send({ method: "GET", path: page.next, signal: args[0]?.signal })) as Page;
      yield* page.results;
    }
  }

  /**
   * Start a run. A lost answer is asked for again with the same key, so this is one run.
   * `P` are the workflow's parameters: `svops-types` writes such a type.
   */
  async trigger<P = Record<string, unknown>>(
    workflowId: number | string,
    input: TriggerInput<P> = {},
    options: Common = {},
  ): Promise<Run> {
    return this.#send<Run>("POST", `/workflows/${encodeURIComponent(workflowId)}/runs`, { ...options, body: input });
  }

  /** Follow a run live with the credential of this client. */
  followRun(runId: string, options: FollowOptions = {}): Following {
    return followRun(runId, { ...this.shared(), ...options });
  }

  /** Follow everything that the credential may see, from now on. */
  followLog(options: FollowOptions = {}): Following {
    return followLog({ ...this.shared(), ...options });
  }

  /** What a stream of this client needs. */
  shared(): FollowOptions {
    const { url, fetch, headers } = this.#options;
    return { url, fetch, headers, credential: this.#http.credential };
  }

  async #send<T>(method: string, path: string, asking: Untyped = {}): Promise<T> {
    const { path: values, query, body, headers, signal, idempotencyKey } = asking;
    const isTrigger = method === "POST" && TRIGGERS.test(path);
    const key = isTrigger ? { "Idempotency-Key": idempotencyKey ?? newKey() } : {};
    const sending = { method, path: filled(path, values), query, body, headers: { ...key, ...headers }, signal };
    return (await this.#http.send(sending)) as T;
  }
}
