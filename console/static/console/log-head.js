// The head of a task log: its title, and the choice of instance and try.

import { el, fill, keepFocus } from "./dom.js";
import { label } from "./states.js";

/**
 * @typedef {{ task?: string, map_index?: string | number | null, try_number?: string | number | null }} LogFilters
 * @typedef {(filters: LogFilters) => string} AddressOf
 */

export class LogHead {
  #addressOf;
  #drawn = "";
  element = el("header", { class: "log-head" });

  /** @param {AddressOf} addressOf */
  constructor(addressOf) {
    this.#addressOf = addressOf;
  }

  /**
   * @param {import("./log-text.js").Named} named
   * @param {{ index: number, attempt: number, newest: number }} shown the log that is shown, and the newest try
   * @param {Api.TaskInstance[]} mapped the mapped instances of the task
   */
  show(named, shown, mapped) {
    // Redraws only after a change: a list that the user has opened must not close.
    const now = JSON.stringify([named.task, shown, mapped.map((one) => one.state)]);
    if (this.#drawn === now) return;
    this.#drawn = now;
    const title = el("h2", { tabindex: -1, data: { key: "log" } }, "Log of ", el("code", {}, named.task));
    const close = el(
      "a",
      {
        class: "button ghost small",
        href: this.#addressOf({}),
        "aria-label": "Close the log",
        data: { key: "close log" },
      },
      "✕",
    );
    const choices = [this.#instances(named, shown, mapped), this.#tries(named, shown)];
    keepFocus(this.element, () => fill(this.element, title, choices, close));
  }

  /**
   * @param {import("./log-text.js").Named} named
   * @param {{ index: number }} shown
   * @param {Api.TaskInstance[]} mapped
   */
  #instances({ task }, { index }, mapped) {
    if (!mapped.length) return null;
    const entries = mapped.map(({ map_index: at, state }) => ({ value: at, text: `${at} · ${label(state)}` }));
    return choice("Instance", entries, index, (value) => this.#addressOf({ task, map_index: value }));
  }

  /**
   * @param {import("./log-text.js").Named} named
   * @param {{ attempt: number, newest: number }} shown
   */
  #tries({ task, index }, { attempt, newest }) {
    if (newest < 2) return null;
    const tries = Array.from({ length: newest }, (_, at) => newest - at);
    const entries = tries.map((value) => ({ value, text: `Try ${value}` }));
    return choice("Try", entries, attempt, (value) =>
      this.#addressOf({ task, map_index: index, try_number: Number(value) === newest ? null : value }),
    );
  }
}

/**
 * @param {string} name
 * @param {{ value: number, text: string }[]} entries
 * @param {number} chosen
 * @param {(value: string) => string} addressOf
 */
function choice(name, entries, chosen, addressOf) {
  const options = entries.map(({ value, text }) => el("option", { value, selected: value === chosen }, text));
  const change = () => {
    location.hash = addressOf(select.value);
  };
  const select = el("select", { "aria-label": name, data: { key: `log ${name}` }, change }, options);
  return select;
}
