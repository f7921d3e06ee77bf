// Shows a state by word, colour and shape. No state is shown by one of them alone.

import { el, svg } from "./dom.js";
import { label, tone } from "./states.js";

/** @type {Record<string, string>} */
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

/**
 * A state as a pill.
 * @param {string} state
 */
export function badge(state) {
  const kind = tone(state);
  return el("span", { class: "badge", data: { tone: kind, state } }, icon(kind), label(state));
}

/** Marks a run or a workflow that makes no progress until somebody resumes it. */
export const pausedBadge = () =>
  el("span", { class: "badge", data: { tone: "warning", state: "paused" } }, icon("paused"), "Paused");

/**
 * Marks a run that is paused, or that is about to be: its DAG is paused and its tasks that had started go on.
 * @param {Pick<Api.Run, "paused" | "pausing">} run
 */
export function pauseBadge({ paused, pausing }) {
  if (!pausing) return paused && pausedBadge();
  const title = "The DAG is paused. Tasks that had started go on to their end.";
  return el("span", { class: "badge", title, data: { tone: "warning", state: "pausing" } }, icon("paused"), "Pausing");
}

/**
 * Says that SVOps cannot use a DAG, and why: as text, because a finger and a keyboard show no tooltip.
 * @param {string} reason "" if it can be used
 */
export const unusableNote = (reason) =>
  reason && el("p", { class: "unusable small" }, el("span", { class: "mark" }, "unusable"), ` ${reason}`);

/** @param {string} kind a tone, or "paused" */
export function icon(kind) {
  const path = svg("path", { d: SHAPES[kind], fill: "none", stroke: "currentColor", "stroke-width": 1.8 });
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" }, path);
}
