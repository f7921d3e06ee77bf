// The lines of a task log.

import { el, fill } from "./dom.js";
import { wordsOf } from "./log-text.js";
import { ofDay } from "./times.js";

const MOST = 10_000;
const NEAR_THE_END_PX = 40;

export class LogLines {
  element = el("div", { class: "log", role: "log", "aria-live": "off", tabindex: 0 });

  clear() {
    fill(this.element);
  }

  /**
   * Add lines at the end. Scrolls on only if the end was in view.
   * @param {Api.LogLine[]} lines
   */
  add(lines) {
    const box = this.element;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_THE_END_PX;
    box.append(...lines.flatMap(lineOf));
    while (box.childElementCount > MOST) box.firstElementChild?.remove();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  }
}

/** @param {Api.LogLine} line */
function lineOf(line) {
  const words = wordsOf(line);
  if (!words) return [];
  const prefix = words.prefix && el("b", {}, words.prefix);
  const time = line.timestamp ? ofDay(line.timestamp) : "";
  return [
    el(
      "div",
      { class: "log-line", data: { level: words.level } },
      el("span", { class: "log-time" }, time),
      el("span", { class: "log-text" }, prefix, words.text),
    ),
  ];
}
