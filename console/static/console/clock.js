// Times on the page that stay up to date while somebody reads them.

import { el } from "./dom.js";
import { duration, full, relative, secondsBetween } from "./times.js";

/**
 * "12 min ago", with the full time as its title.
 * @param {string | null} iso
 */
export function ago(iso) {
  if (!iso) return el("span", { class: "quiet" }, "–");
  const time = el("time", { datetime: iso, title: full(iso) });
  tickOne(time);
  return time;
}

/**
 * The duration between two times, or until now while `to` is null.
 * @param {string | null} from
 * @param {string | null} to
 */
export function elapsed(from, to) {
  const span = el("span", { class: "elapsed", data: { from: from || "", to: to || "" } });
  tickOne(span);
  return span;
}

/** @param {HTMLElement} node */
function tickOne(node) {
  let text = "–";
  if (node instanceof HTMLTimeElement) text = relative(secondsBetween(node.dateTime));
  else if (node.dataset.from) text = duration(secondsBetween(node.dataset.from, node.dataset.to));
  if (node.textContent !== text) node.textContent = text;
}

/** Update every time on the page each second. */
export function startClock() {
  const tick = () => {
    /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("time[datetime], .elapsed[data-to='']")).forEach(
      tickOne,
    );
  };
  setInterval(tick, 1000);
}
