// When each task ran, to one scale.

import { duration, elapsed, secondsBetween } from "./clock.js";
import { el, fill, keepFocus } from "./dom.js";
import { label, tone } from "./states.js";

/** A row for each task instance that has started; the scale reaches to the last end, or to now. */
export class Timeline {
  /** `addressOf(instance)` is where a row leads to. */
  constructor(addressOf) {
    this.addressOf = addressOf;
    this.element = el("div");
    this.scale = el("div", { class: "scale", "aria-hidden": "true" });
    this.rows = [];
    this.shown = "";
  }

  show(instances) {
    const started = instances.filter((one) => one.started_at).sort((one, other) => one.started_at.localeCompare(other.started_at));
    const now = JSON.stringify(started.map(({ observed_at: _, stale: __, ...seen }) => seen));
    if (now !== this.shown || !started.length) this.#draw(started);
    this.shown = now;
    this.tick();
  }

  /** Let what is going grow. Rows stay the same elements, so that they can be pressed. */
  tick() {
    if (!this.rows.length) return;
    const instances = this.rows.map(({ instance }) => instance);
    const begin = instances[0].started_at;
    const end = instances.some((one) => !one.ended_at) ? null : instances.map((one) => one.ended_at).sort().at(-1);
    const total = Math.max(secondsBetween(begin, end), 0.1);
    this.rows.forEach(({ instance, bar }) => place(bar, instance, begin, total));
    fill(this.scale, ["0 s", duration(total / 2), duration(total)].map((text) => el("span", {}, text)));
  }

  #draw(started) {
    this.rows = started.map((instance) => ({ instance, bar: bar(instance) }));
    if (!started.length) {
      fill(this.element, el("p", { class: "quiet" }, "No task has started yet."));
      return;
    }
    const rows = el("ol", {}, this.rows.map(({ instance, bar }) => row(instance, bar, this.addressOf(instance))));
    keepFocus(this.element, () => fill(this.element, el("div", { class: "timeline" }, rows, this.scale)));
  }
}

export const nameOf = ({ task_id: id, map_index: index }) => (index < 0 ? id : `${id} [${index}]`);

const bar = (instance) => el("span", { class: "bar", data: { tone: tone(instance.state) }, title: `${nameOf(instance)}: ${label(instance.state)}` });

function place(bar, instance, begin, total) {
  const share = (seconds) => `${Math.min(100, Math.max(0, (100 * seconds) / total))}%`;
  // At the very end there is still room for the least width.
  bar.style.left = `min(${share(secondsBetween(begin, instance.started_at))}, calc(100% - 4px))`;
  bar.style.width = share(secondsBetween(instance.started_at, instance.ended_at));
}

function row(instance, bar, href) {
  const name = nameOf(instance);
  const tries = instance.try_number > 1 && el("span", { class: "mark" }, `try ${instance.try_number}`);
  const link = el("a", { href, title: `${name}. Show its log`, data: { key: `row ${name}` } }, name);
  return el("li", {}, el("span", { class: "timeline-name" }, link, tries), el("span", { class: "track" }, bar), elapsed(instance.started_at, instance.ended_at));
}
