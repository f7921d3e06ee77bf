import type { Run } from "./client.js";
import { type Connection, type Event, type FollowOptions, followRun, type Status } from "./follow.js";

/** An instance of a task, as far as events tell. A snapshot brings the rest of its fields. */
export type TaskView = Pick<Status["tasks"][number], "task_id" | "map_index" | "state" | "try_number"> &
  Partial<Status["tasks"][number]>;

/** What is known of a run right now. */
export interface RunView {
  connection: Connection;
  /** The whole run, once the first snapshot is there. */
  run: Run | undefined;
  state: Run["state"] | undefined;
  /** Why the stream has ended, or why it is reconnecting. */
  error: unknown;
  tasks: TaskView[];
  /** The last events, at most `keep`. */
  events: Event[];
  isEnded: boolean;
  progress: Progress;
}

export interface Progress {
  done: number;
  total: number;
  /** From 0 to 1. */
  fraction: number;
}

export interface WatchOptions extends Omit<FollowOptions, "onEvent" | "onStatus" | "onReset" | "after"> {
  /** So many events are kept. */
  keep?: number | undefined;
}

const RUN_ENDED = new Set<string | undefined>(["success", "failed", "stopped"]);
const TASK_DONE = new Set(["success", "failed", "skipped", "upstream_failed", "removed"]);
const KEPT = 200;

export const NOTHING: RunView = {
  connection: "connecting",
  run: undefined,
  state: undefined,
  error: undefined,
  tasks: [],
  events: [],
  isEnded: false,
  progress: { done: 0, total: 0, fraction: 0 },
};

/** Keeps what is known of a run, from snapshots and events in any order. */
export class RunModel {
  connection: Connection = "connecting";
  error: unknown;
  #run: Run | undefined;
  #state: Run["state"] | undefined;
  #events: Event[] = [];
  readonly #tasks = new Map<string, TaskView>();
  readonly #keep: number;

  constructor(keep = KEPT) {
    this.#keep = keep;
  }

  take(event: Event): void {
    this.#events.push(event);
    if (this.#events.length > 2 * this.#keep) this.#events = this.#events.slice(-this.#keep);
    this.#apply(event);
  }

  /** A snapshot holds all up to its cursor. */
  snapshot({ cursor, run, tasks }: Status): void {
    this.#run = run;
    this.#state = run.state;
    this.#tasks.clear();
    for (const task of tasks) this.#tasks.set(keyOf(task), task);
    for (const event of this.#events) if (event.id > cursor) this.#apply(event);
  }

  forget(): void {
    this.#events = [];
    this.#tasks.clear();
  }

  view(): RunView {
    const tasks = [...this.#tasks.values()];
    const state = this.#state;
    const isEnded = RUN_ENDED.has(state);
    const done = tasks.filter((task) => TASK_DONE.has(task.state ?? "")).length;
    const total = tasks.length;
    const fraction = state === "success" ? 1 : total ? done / total : 0;
    const run = this.#run && state ? { ...this.#run, state } : undefined;
    const events = this.#events.slice(-this.#keep);
    const { connection, error } = this;
    return { connection, run, state, error, tasks, events, isEnded, progress: { done, total, fraction } };
  }

  #apply({ type, task_id, data }: Event): void {
    if (type.startsWith("workflow.") && "state" in data) this.#state = data.state as Run["state"];
    if (task_id === null || !("map_index" in data)) return;
    const { map_index, state, try_number } = data;
    const key = keyOf({ task_id, map_index });
    this.#tasks.set(key, { ...this.#tasks.get(key), task_id, map_index, state, try_number });
  }
}

const keyOf = ({ task_id, map_index }: { task_id: string; map_index: number }) => `${task_id}[${map_index}]`;

/** Follow a run and tell each new view of it, once for all that comes at the same time. Returns how to end that. */
export function watchRun(runId: string, options: WatchOptions, show: (view: RunView) => void): () => void {
  const model = new RunModel(options.keep);
  let isTelling = false;
  let isOver = false;
  const tell = () => {
    if (isTelling) return;
    isTelling = true;
    queueMicrotask(() => {
      isTelling = false;
      if (!isOver) show(model.view());
    });
  };
  const following = followRun(runId, {
    ...options,
    onEvent(event) {
      model.take(event);
      tell();
    },
    onStatus(status) {
      model.snapshot(status);
      tell();
    },
    onReset() {
      model.forget();
      tell();
    },
    onConnection(connection, error) {
      model.connection = connection;
      model.error = error;
      options.onConnection?.(connection, error);
      tell();
    },
  });
  return () => {
    isOver = true;
    following.close();
  };
}
