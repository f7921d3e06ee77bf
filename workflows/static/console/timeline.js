// When each task ran, to one scale.

import { duration, elapsed, secondsBetween } from "./clock.js";
import { el } from "./dom.js";
import { label, tone } from "./states.js";

/** A row for each task instance that has started; the scale reaches to the last end, or to now. */
export function drawTimeline(instances) {
  const started = instances.filter((one) => one.started_at).sort((one, other) => one.started_at.localeCompare(other.started_at));
  if (!started.length) return el("p", { class: "quiet" }, "No task has started yet.");
  const begin = started[0].started_at;
  const end = started.some((one) => !one.ended_at) ? null : started.map((one) => one.ended_at).sort().at(-1);
  const total = Math.max(secondsBetween(begin, end), 0.1);
  return el(
    "div",
    { class: "timeline" },
    el("ol", {}, started.map((one) => row(one, begin, total))),
    el("div", { class: "scale", "aria-hidden": "true" }, ["0 s", duration(total / 2), duration(total)].map((text) => el("span", {}, text))),
  );
}

function row(instance, begin, total) {
  const name = instance.map_index < 0 ? instance.task_id : `${instance.task_id} [${instance.map_index}]`;
  const bar = el("span", { class: "bar", data: { tone: tone(instance.state) }, title: `${name}: ${label(instance.state)}` });
  const share = (seconds) => `${Math.min(100, Math.max(0, (100 * seconds) / total))}%`;
  // At the very end there is still room for the least width.
  bar.style.left = `min(${share(secondsBetween(begin, instance.started_at))}, calc(100% - 4px))`;
  bar.style.width = share(secondsBetween(instance.started_at, instance.ended_at));
  const tries = instance.try_number > 1 && el("span", { class: "mark" }, `try ${instance.try_number}`);
  return el(
    "li",
    {},
    el("span", { class: "timeline-name", title: name }, name, tries),
    el("span", { class: "track" }, bar),
    elapsed(instance.started_at, instance.ended_at),
  );
}
