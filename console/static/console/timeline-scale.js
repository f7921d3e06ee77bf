// The scale of the timeline. Knows nothing of the page.

import { secondsBetween } from "./times.js";

/** @typedef {Api.TaskInstance & { started_at: string }} Started */

/**
 * The instances that have started, in the order of their start.
 * @param {Api.TaskInstance[]} instances
 * @returns {Started[]}
 */
export function startedOf(instances) {
  const started = /** @type {Started[]} */ (instances.filter((one) => one.started_at));
  return started.sort((one, other) => one.started_at.localeCompare(other.started_at));
}

/**
 * The begin of the scale and its length in seconds. It ends with the last task, or now while a task runs.
 * @param {Started[]} started at least one, in the order of their start
 */
export function scaleOf(started) {
  const begin = started[0].started_at;
  const ends = started.map((one) => one.ended_at);
  const end = ends.includes(null) ? null : ends.sort().at(-1);
  return { begin, seconds: Math.max(secondsBetween(begin, end), 0.1) };
}

/**
 * Where the bar of an instance begins on the scale and how long it is, both in percent.
 * @param {Started} instance
 * @param {{ begin: string, seconds: number }} scale
 */
export function spanOf(instance, { begin, seconds }) {
  const percent = (/** @type {number} */ part) => Math.min(100, Math.max(0, (100 * part) / seconds));
  return {
    start: percent(secondsBetween(begin, instance.started_at)),
    length: percent(secondsBetween(instance.started_at, instance.ended_at)),
  };
}
