import type { components } from "./schema.js";

/** Any line of the log. `type` tells what is in `data`. */
export type Event = components["schemas"]["Event"];
/** The events of one type, for example `EventOf<"workflow.failed">`. */
export type EventOf<T extends Event["type"]> = Extract<Event, { type: T }>;

/** A run and its tasks at one moment. */
export interface Status {
  cursor: number;
  run: components["schemas"]["Run"];
  tasks: components["schemas"]["Task"][];
}

/** What the server sends, besides the events themselves. */
export type Frame =
  | { type: "connection.ready"; cursor: number; heartbeat_s: number }
  | { type: "heartbeat"; cursor: number }
  | { type: "events"; events: Event[] }
  | { type: "resuming"; from: number }
  | { type: "recovered"; recovered: boolean; reason?: string }
  | ({ type: "status" } & Status)
  | { type: "error"; code: string; detail: string; retry_after?: number }
  | Event;

/** What a stream is narrowed to. */
export interface Filter {
  run_id?: string | undefined;
  workflow_id?: number | undefined;
  types?: Event["type"][] | undefined;
}
