// The states of runs and tasks: their labels, tones and order.

/** @type {string[]} */
export const ACTIVE = ["pending", "queued", "running", "stopping"];
/** @type {string[]} */
export const TERMINAL = ["success", "failed", "stopped"];
const TASK_DONE = ["success", "failed", "skipped", "upstream_failed", "removed"];
const WORST_FIRST = [
  "failed",
  "upstream_failed",
  "up_for_retry",
  "awaiting_input",
  "running",
  "deferred",
  "up_for_reschedule",
  "restarting",
  "queued",
  "scheduled",
  "",
];

/** @type {Record<string, string>} */
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
  awaiting_input: "Waiting for a person",
  up_for_reschedule: "Waiting",
  upstream_failed: "Not run",
  restarting: "Restarting",
  removed: "Removed",
  "": "Not started",
};

/**
 * A tone is a colour and a shape. Several states share one.
 * @type {Record<string, string>}
 */
const TONES = {
  pending: "idle",
  queued: "queued",
  scheduled: "queued",
  running: "running",
  deferred: "running",
  up_for_reschedule: "running",
  restarting: "running",
  up_for_retry: "warning",
  awaiting_input: "warning",
  stopping: "warning",
  success: "success",
  failed: "failed",
  stopped: "stopped",
  upstream_failed: "stopped",
};

/** @param {string} state */
export const label = (state) => LABELS[state] ?? state;

/** @param {string | undefined} state */
export const tone = (state) => TONES[state ?? ""] ?? "idle";

/** @param {string} state */
export const isTaskDone = (state) => TASK_DONE.includes(state);

/**
 * Whether the run waits for a start time in the future.
 * @param {Pick<Api.Run, "state" | "run_at">} run
 */
export const startsLater = (run) =>
  run.state === "pending" && run.run_at !== null && Date.parse(run.run_at) > Date.now();

/**
 * One state for all instances of a mapped task: the worst one, or else the one furthest from its end. A state that the
 * console does not know is not an end.
 * @param {string[]} states
 */
export const together = (states) =>
  WORST_FIRST.find((state) => states.includes(state)) ?? states.find((state) => !isTaskDone(state)) ?? states[0] ?? "";
