import {
  createContext,
  createElement,
  type HTMLAttributes,
  type ReactElement,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { ListedRun, Run, Svops, TriggerInput } from "./client.js";
import type { Event } from "./follow.js";
import { newKey } from "./http.js";
import { NOTHING, type RunView, type WatchOptions, watchRun } from "./run-view.js";
import type { paths } from "./schema.js";

export type { Progress, RunView, TaskView, WatchOptions } from "./run-view.js";

const Client = createContext<Svops | undefined>(undefined);

/** Give a client to the hooks below it. */
export function SvopsProvider({ client, children }: { client: Svops; children?: ReactNode }): ReactElement {
  return createElement(Client.Provider, { value: client }, children);
}

/** The value of the last render, for what runs later. */
function useLatest<T>(value: T): { current: T } {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}

/**
 * Follow a run live. Without options, the client of the `SvopsProvider` follows it.
 * With `keepOpen` the view goes on after the end, for a page that offers a retry.
 */
export function useRun(runId: string | null | undefined, options: WatchOptions = {}): RunView {
  const client = useContext(Client);
  const latest = useLatest(options);
  const [view, setView] = useState(NOTHING);
  const { keepOpen } = options;
  // Two objects of one address are the same address.
  const url = options.url === undefined ? undefined : String(options.url);
  useEffect(() => {
    setView(NOTHING);
    if (!runId) return undefined;
    const { ticket, token, onConnection, onEnd, ...others } = latest.current;
    // A function that the page makes anew at each render is looked up when it is needed.
    const source = (name: "ticket" | "token", given: typeof ticket) =>
      typeof given === "function" ? () => (latest.current[name] as typeof given)() : given;
    const own = { ...others, url, keepOpen, ticket: source("ticket", ticket), token: source("token", token) };
    const shared = ticket === undefined && token === undefined ? client?.shared() : undefined;
    return watchRun(runId, { ...own, ...shared, onConnection, onEnd }, setView);
  }, [runId, client, url, keepOpen, latest]);
  return view;
}

type RunsQuery = NonNullable<paths["/api/v1/runs"]["get"]["parameters"]["query"]>;

export interface Runs {
  runs: ListedRun[];
  isLoading: boolean;
  error: unknown;
  refresh: () => void;
}

const CHANGES: Event["type"][] = [
  "workflow.triggered",
  "workflow.started",
  "workflow.completed",
  "workflow.failed",
  "workflow.stopped",
  "workflow.retried",
  "workflow.paused",
  "workflow.resumed",
];
const GATHER_MS = 300;

/** A page of the list of runs. It is fetched again when one of them changes. */
export function useRuns(query: RunsQuery = {}, { client, live = true }: { client?: Svops; live?: boolean } = {}): Runs {
  const svops = useClient(client);
  const [list, setList] = useState<Omit<Runs, "refresh">>({ runs: [], isLoading: true, error: undefined });
  const asking = JSON.stringify(query);
  const last = useRef<AbortController | undefined>(undefined);
  const refresh = useCallback(() => {
    last.current?.abort();
    last.current = new AbortController();
    const { signal } = last.current;
    svops.get("/runs", { query: JSON.parse(asking), signal }).then(
      ({ results }) => signal.aborted || setList({ runs: results, isLoading: false, error: undefined }),
      (error) => signal.aborted || setList((before) => ({ ...before, isLoading: false, error })),
    );
  }, [svops, asking]);
  useEffect(() => {
    refresh();
    return () => last.current?.abort();
  }, [refresh]);
  const { workflow } = query;
  useEffect(() => {
    if (!live) return undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const changed = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        refresh();
      }, GATHER_MS);
    };
    const filter = { types: CHANGES, workflow_id: workflow === undefined ? undefined : Number(workflow) };
    const following = svops.followLog({ ...filter, onEvent: changed, onReset: changed });
    return () => {
      clearTimeout(timer);
      following.close();
    };
  }, [svops, workflow, live, refresh]);
  return { ...list, refresh };
}

function useClient(given: Svops | undefined): Svops {
  const client = useContext(Client);
  const found = given ?? client;
  if (!found) throw new TypeError("Put a <SvopsProvider client={…}> around this, or give it a client.");
  return found;
}

/** Starts a run through your own back end. Pass the key on as `Idempotency-Key`: the same content keeps its key. */
export type Starter<Input, Result> = (input: Input, options: { idempotencyKey: string }) => Promise<Result>;

export interface Trigger<Input, Result> {
  /** Start a run. Sent again after an error, the same content is the same run. */
  trigger: (input: Input) => Promise<Result | undefined>;
  run: Result | undefined;
  isPending: boolean;
  error: unknown;
  reset: () => void;
}

/** Start runs of a workflow with the client of the `SvopsProvider`, or with a function of your own. */
export function useTrigger<P = Record<string, unknown>>(
  workflow: number | string,
  client?: Svops,
): Trigger<TriggerInput<P>, Run>;
export function useTrigger<Input, Result>(starter: Starter<Input, Result>): Trigger<Input, Result>;
export function useTrigger(how: number | string | Starter<never, unknown>, given?: Svops): Trigger<never, unknown> {
  const context = useContext(Client);
  const client = given ?? context;
  const latest = useLatest(how);
  const sent = useRef({ content: "", key: "" });
  const [outcome, setOutcome] = useState<Omit<Trigger<never, unknown>, "trigger" | "reset">>(IDLE);
  const trigger = useCallback(
    async (input: never) => {
      const content = JSON.stringify(input);
      if (sent.current.content !== content) sent.current = { content, key: newKey() };
      setOutcome({ ...IDLE, isPending: true });
      try {
        const run = await start(latest.current, client, input, sent.current.key);
        sent.current = { content: "", key: "" };
        setOutcome({ ...IDLE, run });
        return run;
      } catch (error) {
        setOutcome({ ...IDLE, error });
        return undefined;
      }
    },
    [client, latest],
  );
  const reset = useCallback(() => setOutcome(IDLE), []);
  return useMemo(() => ({ ...outcome, trigger, reset }), [outcome, trigger, reset]);
}

const IDLE = { run: undefined, isPending: false, error: undefined };

function start(
  how: number | string | Starter<never, unknown>,
  client: Svops | undefined,
  input: never,
  idempotencyKey: string,
): Promise<unknown> {
  if (typeof how === "function") return how(input, { idempotencyKey });
  if (!client) throw new TypeError("Put a <SvopsProvider client={…}> around this, or give it a client.");
  return client.trigger(how, input, { idempotencyKey });
}

export interface RunProgressProps extends Omit<HTMLAttributes<HTMLDivElement>, "children"> {
  /** What `useRun` returns. */
  view: RunView;
  label?: string;
  /** What stands beside the bar; by default how many tasks have ended. */
  children?: ReactNode | ((view: RunView) => ReactNode);
}

/** A bar and a text without any style. `data-state` and `data-connection` are for yours. */
export function RunProgress({
  view,
  label = "Progress of the run",
  children,
  ...rest
}: RunProgressProps): ReactElement {
  const { done, total, fraction } = view.progress;
  const text = typeof children === "function" ? children(view) : children;
  return createElement(
    "div",
    { ...rest, "data-state": view.state ?? "", "data-connection": view.connection },
    createElement("progress", { max: 1, value: fraction, "aria-label": label }),
    createElement("span", null, text ?? (total ? `${done} of ${total} tasks` : (view.state ?? ""))),
  );
}
