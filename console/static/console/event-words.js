// What the list of events says about an event. Knows nothing of the page.

import { tone } from "./states.js";
import { nameOf } from "./task-name.js";
import { duration } from "./times.js";

/** @type {Record<string, string>} */
const TONES = {
  "workflow.triggered": "queued",
  "workflow.retried": "queued",
  "workflow.paused": "warning",
  "workflow.stop_incomplete": "warning",
  "workflow.external_change": "warning",
  "task.awaiting_input": "warning",
};

/** @param {Api.LogEvent} event */
export const toneOf = (event) => TONES[event.type] ?? tone(event.data.state);

/**
 * The details of an event, in short phrases.
 * @param {Pick<Api.LogEvent, "type" | "task_id" | "data">} event
 */
export function detailsOf({ type, task_id: task, data }) {
  const phrases = [
    task && nameOf({ task_id: task, map_index: data.map_index ?? -1 }),
    task && isRepeated(data.try_number) && `try ${data.try_number}`,
    isRepeated(data.attempt) && `attempt ${data.attempt}`,
    data.subject,
    data.options?.length && data.options.join(" / "),
    data.chosen?.length && data.chosen.join(", "),
    data.mode && `mode ${data.mode}`,
    data.scope === "workflow" && "the whole DAG",
    ...reasonOf(type, data),
    data.change && `${data.change} in Airflow`,
    data.still_running?.length && `still running: ${data.still_running.join(", ")}`,
    type !== "task.skipped" && typeof data.duration_s === "number" && duration(data.duration_s),
  ];
  return phrases.filter(Boolean).join(" · ");
}

/**
 * Who did it and why. The reason of a stop says both already.
 * @param {string} type
 * @param {Api.EventData} data
 */
const reasonOf = (type, { by, reason, note }) =>
  type === "workflow.stopped" ? [reason] : [by && `by ${by}`, reason, note];

/** @param {number | undefined} count */
const isRepeated = (count) => (count ?? 0) > 1;
