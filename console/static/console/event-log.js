// Draws the events of a run, newest first.

import { el } from "./dom.js";
import { detailsOf, toneOf } from "./event-words.js";
import { full, ofDay } from "./times.js";

/** Shows each event once, ordered by `id`, in whatever order they arrive. */
export class EventLog {
  /** @type {Map<number, HTMLElement>} */
  #lines = new Map();
  element = el("ol", { class: "event-log" });

  /** @param {Api.LogEvent[]} events */
  add(events) {
    const fresh = events.filter((event) => !this.#lines.has(event.id));
    if (!fresh.length) return;
    for (const event of fresh) this.#lines.set(event.id, line(event));
    const ordered = [...this.#lines.entries()].sort(([one], [other]) => other - one);
    this.element.replaceChildren(...ordered.map(([, element]) => element));
  }
}

/** @param {Api.LogEvent} event */
function line(event) {
  return el(
    "li",
    { data: { tone: toneOf(event), seq: event.seq } },
    el("time", { class: "log-time", title: full(event.timestamp) }, ofDay(event.timestamp)),
    el("code", { class: "log-type" }, event.type),
    el("span", { class: "log-words" }, detailsOf(event)),
  );
}
