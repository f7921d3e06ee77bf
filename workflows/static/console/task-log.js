// The log of one task, followed while its process lives.

import { BASE, get } from "./api.js";
import { ofDay } from "./clock.js";
import { el, fill, focusKey, keepFocus } from "./dom.js";
import { label } from "./states.js";

const FIRST = 1_000;
const MOST = 10_000;
// The API gives about a megabyte at once, and less of a log whose lines are long.
const NEARLY_A_MEGABYTE = 900_000;
const WORST_FIRST = ["failed", "up_for_retry", "running", "success"];
const NAMED = ["warning", "error", "critical"];
const COLOUR_CODES = /\x1b\[[0-9;]*m/g;

/** A panel that shows nothing until it is pointed at a task. */
export class TaskLog {
  /** `addressOf({task, map_index, try_number})` is where a choice in the panel leads to. */
  constructor(path, addressOf) {
    this.path = path;
    this.addressOf = addressOf;
    this.wanted = null;
    this.instances = [];
    this.open = null;
    this.source = null;
    this.head = el("header", { class: "log-head" });
    this.notice = el("p", { class: "quiet small" });
    this.status = el("p", { class: "log-status", role: "status" });
    this.lines = el("div", { class: "log", role: "log", "aria-live": "off", tabindex: 0 });
    this.element = el("section", { class: "panel", hidden: true }, this.head, this.notice, this.lines, this.status);
  }

  /** Show the log that the address names, or none. */
  point({ task, map_index: index, try_number: attempt }) {
    const before = this.wanted?.task;
    this.wanted = task ? { task, index: index ?? null, attempt: attempt ?? null } : null;
    this.element.hidden = !task;
    if (task) this.#update();
    else this.leave();
    if (task && task !== before) this.#come();
  }

  /** Task instances as they are now: the log moves on with a task that is tried again. */
  take(instances) {
    this.instances = instances;
    if (this.wanted) this.#update();
  }

  leave() {
    this.source?.close();
    this.source = null;
    this.open = null;
  }

  #mine = () => this.instances.filter((one) => one.task_id === this.wanted.task);

  /** The instance that was named, or else the one that most probably is looked for. */
  #instance() {
    const mine = this.#mine();
    if (this.wanted.index !== null) return mine.find((one) => String(one.map_index) === this.wanted.index);
    return WORST_FIRST.map((state) => mine.find((one) => one.state === state)).find(Boolean) ?? mine[0];
  }

  #update() {
    const instance = this.#instance();
    const attempt = Number(this.wanted.attempt ?? instance?.try_number ?? 0);
    const now = { task: this.wanted.task, index: instance?.map_index ?? -1, attempt };
    this.#drawHead(instance, now);
    if (this.open && Object.keys(now).every((name) => now[name] === this.open[name])) return;
    this.leave();
    this.open = now;
    this.#read(now, FIRST);
  }

  #query(more) {
    const { index, attempt } = this.open;
    return new URLSearchParams({ map_index: index, try_number: attempt, ...more });
  }

  #logs = () => `${this.path}/tasks/${encodeURIComponent(this.open.task)}/logs`;

  async #read(mine, tail) {
    this.#clear();
    if (!mine.attempt) {
      this.#say("idle", "The task has not started yet: its log shows here when it does.");
      return;
    }
    this.#say("idle", "Asking Airflow…");
    const page = await get(`${this.#logs()}?${this.#query({ tail })}`).catch((error) => error);
    if (mine !== this.open) return;
    if (!page.lines) {
      this.#fail(page.message);
      return;
    }
    this.#add(page.lines);
    this.#tellOfEarlier(page.lines, tail);
    if (page.ended) this.#say("idle", page.lines.length ? "The log has ended." : "The log is empty.");
    else this.#follow(page.cursor);
  }

  #follow(cursor) {
    const source = new EventSource(`${BASE}${this.#logs()}/stream?${this.#query({ cursor })}`);
    this.source = source;
    this.#say("live", "Following");
    source.addEventListener("open", () => this.#say("live", "Following"));
    source.addEventListener("log", (event) => this.#add(JSON.parse(event.data).lines));
    source.addEventListener("end", () => {
      source.close();
      this.#say("idle", "The log has ended.");
    });
    // Also the name of what the API says when it can not go on; the browser's own has no data.
    source.addEventListener("error", (event) => {
      if (event.data) source.close();
      if (event.data) this.#fail(JSON.parse(event.data).detail);
      else if (source.readyState === EventSource.CLOSED) this.#fail("The log can not be followed now.");
      else this.#say("idle", "Reconnecting…");
    });
  }

  #come() {
    this.element.scrollIntoView({ block: "nearest" });
    focusKey("log", this.head);
  }

  // --- showing ----------------------------------------------------------------------------------------------

  #drawHead(instance, { task, index, attempt }) {
    const mine = this.#mine().filter((one) => one.map_index >= 0);
    const newest = instance?.try_number ?? 0;
    const at = (change) => this.addressOf({ task, map_index: this.wanted.index, try_number: this.wanted.attempt, ...change });
    const options = [
      mine.length > 0 && choice("Instance", mine.map((one) => [one.map_index, `${one.map_index} · ${label(one.state)}`]), index, (value) => at({ map_index: value, try_number: null })),
      newest > 1 && choice("Try", Array.from({ length: newest }, (_, n) => [newest - n, `Try ${newest - n}`]), attempt, (value) => at({ try_number: Number(value) === newest ? null : value })),
    ];
    this.lines.setAttribute("aria-label", `Log of ${task}`);
    const title = el("h2", { tabindex: -1, data: { key: "log" } }, "Log of ", el("code", {}, task));
    const close = el("a", { class: "button ghost small", href: this.addressOf({}), "aria-label": "Close the log", data: { key: "close log" } }, "✕");
    // A list that somebody has opened must not close under their eyes.
    const drawn = JSON.stringify([task, index, attempt, newest, mine.map((one) => one.state)]);
    if (this.head.dataset.drawn === drawn) return;
    this.head.dataset.drawn = drawn;
    keepFocus(this.head, () => fill(this.head, title, options, close));
  }

  #clear() {
    fill(this.lines);
    fill(this.notice);
    this.chars = 0;
  }

  #add(lines) {
    const isAtEnd = this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 40;
    this.lines.append(...lines.map(line).filter(Boolean));
    while (this.lines.childElementCount > MOST) this.lines.firstElementChild.remove();
    if (isAtEnd) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #tellOfEarlier(lines, tail) {
    const chars = lines.reduce((sum, { text }) => sum + text.length, 0);
    if (lines.length < tail && chars < NEARLY_A_MEGABYTE) return;
    const mine = this.open;
    const more = tail < MOST && chars < NEARLY_A_MEGABYTE && el("button", { class: "button small", type: "button", click: () => this.#again(mine, MOST) }, "Show more");
    fill(this.notice, `Only the last ${lines.length.toLocaleString()} lines are shown. `, more || "The API has all of it.");
  }

  #again(mine, tail) {
    if (mine !== this.open) return;
    this.source?.close();
    this.#read(mine, tail);
  }

  #say(state, ...words) {
    this.status.dataset.state = state;
    if (this.status.textContent !== words.join("")) fill(this.status, words);
  }

  #fail(message) {
    const mine = this.open;
    this.status.dataset.state = "problem";
    fill(this.status, `${message} `, el("button", { class: "button small", type: "button", click: () => this.#again(mine, FIRST) }, "Try again"));
  }
}

function choice(name, entries, chosen, addressOf) {
  const options = entries.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("select", { "aria-label": name, data: { key: `log ${name}` }, change: (event) => (location.hash = addressOf(event.target.value)) }, options);
}

/** One line; what Airflow folds its own words with is no text of the task. */
function line({ timestamp, level, text }) {
  if (text === "::endgroup::") return null;
  const isFold = text.startsWith("::group::");
  const words = text.replace(/^::group::/, "").replaceAll(COLOUR_CODES, "");
  return el(
    "div",
    { class: "log-line", data: { level: isFold ? "fold" : level ?? "" } },
    el("span", { class: "log-time" }, timestamp ? ofDay(timestamp) : ""),
    el("span", { class: "log-text" }, NAMED.includes(level) && el("b", {}, `${level.toUpperCase()} `), words),
  );
}
