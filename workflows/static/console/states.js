// States in words, colour and shape: none of them stands alone.

import { el, svg } from "./dom.js";

export const ACTIVE = ["pending", "queued", "running", "stopping"];
export const TERMINAL = ["success", "failed", "stopped"];
const TASK_DONE = ["success", "failed", "skipped", "upstream_failed", "removed"];

const LABELS = {
  pending: "Pending",
  queued: "Queued",
  running: "Running",
  stopping: "Stopping",
  success: "Success",
  failed: "Failed",
  stopped: "Stopped",
  skipped: "Skipped",
  scheduled: "Scheduled",
  deferred: "Deferred",
  up_for_retry: "Will retry",
  up_for_reschedule: "Waiting",
  upstream_failed: "Not run",
  restarting: "Restarting",
  removed: "Removed",
  "": "Not started",
};

// Each state takes its colour from one of these.
const TONES = {
  pending: "idle",
  queued: "queued",
  scheduled: "queued",
  running: "running",
  deferred: "running",
  up_for_reschedule: "running",
  restarting: "running",
  up_for_retry: "warning",
  stopping: "warning",
  success: "success",
  failed: "failed",
  stopped: "stopped",
  upstream_failed: "stopped",
};

const SHAPES = {
  idle: "M8 3.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9",
  queued: "M8 3.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9M8 5.5V8l1.6 1.2",
  running: "M8 3a5 5 0 1 1-5 5",
  warning: "M8 3.5v5.5M8 11.6v.8",
  success: "M3.8 8.4l2.8 2.8 5.6-6",
  failed: "M4.6 4.6l6.8 6.8M11.4 4.6l-6.8 6.8",
  stopped: "M5 5h6v6H5z",
  paused: "M5.6 4v8M10.4 4v8",
};

export const label = (state) => LABELS[state] ?? state;
export const tone = (state) => TONES[state] ?? "idle";
export const isTaskDone = (state) => TASK_DONE.includes(state);

/** A state as a pill: shape and word. */
export function badge(state, text = label(state)) {
  const kind = tone(state);
  return el("span", { class: "badge", data: { tone: kind, state } }, icon(kind), text);
}

/** Stands beside the state of a run, or at a workflow, that makes no progress until it is resumed. */
export const pausedBadge = () => el("span", { class: "badge", data: { tone: "warning", state: "paused" } }, icon("paused"), "Paused");

/** Whether the run waits for a start that somebody has put off. */
export const startsLater = (run) => run.state === "pending" && run.run_at !== null && Date.parse(run.run_at) > Date.now();

export function icon(kind) {
  const path = svg("path", { d: SHAPES[kind], fill: "none", stroke: "currentColor", "stroke-width": 1.8 });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, path);
}

/** The one state that says how a mapped task is: the worst, or else the furthest from its end. */
export function together(states) {
  const order = ["failed", "upstream_failed", "up_for_retry", "running", "deferred", "up_for_reschedule", "restarting"];
  return [...order, "queued", "scheduled", ""].find((state) => states.includes(state)) ?? states[0] ?? "";
}
