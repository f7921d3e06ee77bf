// Which actions a run allows, and what a retry would run. Knows nothing of the page.

import { TERMINAL } from "./states.js";
import { nameOf } from "./task-name.js";

/**
 * Why the run cannot be stopped now; "" when it can.
 * @param {Pick<Api.Run, "state">} run
 */
export function whyNotStop(run) {
  if (run.state === "stopping") return "The run is already stopping.";
  return TERMINAL.includes(run.state) ? "The run has ended." : "";
}

/**
 * Why the run cannot be paused now; "" when it can.
 * @param {Pick<Api.Run, "state">} run
 */
export function whyNotPause(run) {
  if (run.state === "stopping") return "The run is stopping.";
  return TERMINAL.includes(run.state) ? "The run has ended." : "";
}

/**
 * Why the run cannot be retried now; "" when it can.
 * @param {Pick<Api.Run, "state" | "queued_at">} run
 */
export function whyNotRetry(run) {
  if (!TERMINAL.includes(run.state)) return "The run has not ended.";
  return run.queued_at ? "" : "Airflow never received this run. Trigger a new one.";
}

/**
 * The names of these task instances, in the order in which they run.
 * @param {Api.TaskRef[]} refs
 * @param {string[]} taskIds the tasks of the run, in that order
 */
export function namesInOrder(refs, taskIds) {
  const place = (/** @type {Api.TaskRef} */ ref) => taskIds.indexOf(ref.task_id);
  return [...refs].sort((one, other) => place(one) - place(other)).map(nameOf);
}
