// Draws when each task ran, all on one scale.

import { elapsed } from "./clock.js";
import { el, fill, keepFocus } from "./dom.js";
import { label, tone } from "./states.js";
import { nameOf } from "./task-name.js";
import { scaleOf, spanOf, startedOf } from "./timeline-scale.js";
import { duration } from "./times.js";

/** @typedef {import("./timeline-scale.js").Started} Started */

/** A row for each task instance that has started. */
export class Timeline {
  /** @type {{ instance: Started, bar: HTMLElement }[]} */
  #rows = [];
  #drawn = "";
  #addressOf;
  #scale = el("div", { class: "scale", "aria-hidden": "true" });
  element = el("div");

  /** @param {(instance: Api.TaskInstance) => string} addressOf where a click on a row leads */
  constructor(addressOf) {
    this.#addressOf = addressOf;
  }

  /** @param {Api.TaskInstance[]} instances */
  show(instances) {
    const started = startedOf(instances);
    const now = JSON.stringify(started.map(({ observed_at: _, stale: __, ...shown }) => shown));
    if (now !== this.#drawn || !started.length) this.#draw(started);
    this.#drawn = now;
    this.tick();
  }

  /** Let the bars of running tasks grow. The rows stay the same elements, so that they can be clicked. */
  tick() {
    if (!this.#rows.length) return;
    const scale = scaleOf(this.#rows.map(({ instance }) => instance));
    for (const { instance, bar } of this.#rows) place(bar, spanOf(instance, scale));
    const marks = ["0 s", duration(scale.seconds / 2), duration(scale.seconds)];
    fill(
      this.#scale,
      marks.map((text) => el("span", {}, text)),
    );
  }

  /** @param {Started[]} started */
  #draw(started) {
    this.#rows = started.map((instance) => ({ instance, bar: barOf(instance) }));
    if (!started.length) {
      fill(this.element, el("p", { class: "quiet" }, "No task has started yet."));
      return;
    }
    const rows = this.#rows.map(({ instance, bar }) => row(instance, bar, this.#addressOf(instance)));
    keepFocus(this.element, () =>
      fill(this.element, el("div", { class: "timeline" }, el("ol", {}, rows), this.#scale)),
    );
  }
}

/** @param {Started} instance */
function barOf(instance) {
  const title = `${nameOf(instance)}: ${label(instance.state)}`;
  return el("span", { class: "bar", data: { tone: tone(instance.state) }, title });
}

/**
 * @param {HTMLElement} bar
 * @param {{ start: number, length: number }} span
 */
function place(bar, { start, length }) {
  // Leaves room for the least width of a bar at the very end.
  bar.style.left = `min(${start}%, calc(100% - 4px))`;
  bar.style.width = `${length}%`;
}

/**
 * @param {Started} instance
 * @param {HTMLElement} bar
 * @param {string} href
 */
function row(instance, bar, href) {
  const name = nameOf(instance);
  const tries = instance.try_number > 1 && el("span", { class: "mark" }, `try ${instance.try_number}`);
  const link = el("a", { href, title: `${name}. Show its log`, data: { key: `row ${name}` } }, name);
  return el(
    "li",
    {},
    el("span", { class: "timeline-name" }, link, tries),
    el("span", { class: "track" }, bar),
    elapsed(instance.started_at, instance.ended_at),
  );
}
