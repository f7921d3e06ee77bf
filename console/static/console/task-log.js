// The log of one task. Follows it while the task runs.

import { BASE, get, orError } from "./api.js";
import { el, fill, focusKey } from "./dom.js";
import { LogHead } from "./log-head.js";
import { LogLines } from "./log-lines.js";
import { instanceFor, lengthOf } from "./log-text.js";

const FIRST_LINES = 1_000;
const MOST_LINES = 10_000;
// The API returns about a megabyte at most, and fewer lines if they are long.
const NEARLY_A_MEGABYTE = 900_000;
const PREPARING_MS = 2_000;

/**
 * The log that is open.
 * @typedef {{ task: string, index: number, attempt: number }} Open
 */

/** A panel that stays hidden until the address names a task. */
export class TaskLog {
  #path;
  /** @type {import("./log-text.js").Named | null} */
  #named = null;
  /** @type {Api.TaskInstance[]} */
  #instances = [];
  /** @type {Open | null} */
  #open = null;
  /** @type {EventSource | null} */
  #source = null;
  #head;
  #notice = el("p", { class: "quiet small" });
  #status = el("p", { class: "log-status", role: "status" });
  #lines = new LogLines();
  element;

  /**
   * @param {string} path the path of the run in the API
   * @param {import("./log-head.js").AddressOf} addressOf where a choice in the panel leads
   */
  constructor(path, addressOf) {
    this.#path = path;
    this.#head = new LogHead(addressOf);
    const content = [this.#head.element, this.#notice, this.#lines.element, this.#status];
    this.element = el("section", { class: "panel", hidden: true }, content);
  }

  /**
   * Show the log that the address names, or none.
   * @param {Record<string, string | undefined>} filters
   */
  point({ task, map_index: index, try_number: attempt }) {
    const before = this.#named?.task;
    this.#named = task ? { task, index: index ?? null, attempt: attempt ?? null } : null;
    this.element.hidden = !task;
    if (!task) {
      this.leave();
      return;
    }
    this.#update();
    if (task !== before) this.#comeIntoView();
  }

  /**
   * Take the task instances as they are now. When a task is tried again, the panel goes on to its new log.
   * @param {Api.TaskInstance[]} instances
   */
  take(instances) {
    this.#instances = instances;
    if (this.#named) this.#update();
  }

  leave() {
    this.#source?.close();
    this.#source = null;
    this.#open = null;
  }

  #comeIntoView() {
    this.element.scrollIntoView({ block: "nearest" });
    focusKey("log", this.#head.element);
  }

  #update() {
    const named = this.#named;
    if (!named) return;
    const mine = this.#instances.filter((one) => one.task_id === named.task);
    const instance = instanceFor(mine, named.index);
    const newest = instance?.try_number ?? 0;
    const now = {
      task: named.task,
      index: instance?.map_index ?? -1,
      attempt: Number(named.attempt ?? newest),
    };
    const mapped = mine.filter((one) => one.map_index >= 0);
    this.#head.show(named, { index: now.index, attempt: now.attempt, newest }, mapped);
    this.#lines.element.setAttribute("aria-label", `Log of ${named.task}`);
    if (JSON.stringify(now) === JSON.stringify(this.#open)) return;
    this.leave();
    this.#open = now;
    this.#read(now, FIRST_LINES);
  }

  // --- reading ----------------------------------------------------------------------------------------------

  /**
   * @param {Open} mine
   * @param {number} tail the number of lines from the end
   */
  async #read(mine, tail) {
    this.#lines.clear();
    fill(this.#notice);
    if (!mine.attempt) {
      this.#say("idle", "The task has not started yet. Its log appears when it starts.");
      return;
    }
    this.#say("idle", "Asking Airflow…");
    const page = await this.#prepared(mine, tail);
    // The user has chosen another log meanwhile.
    if (!page || mine !== this.#open) return;
    if (page instanceof Error) {
      this.#fail(mine, page.message);
      return;
    }
    this.#lines.add(page.lines);
    this.#offerMore(mine, page.lines, tail);
    if (page.ended) this.#say("idle", page.lines.length ? "The log has ended." : "The log is empty.");
    else this.#follow(mine, page.cursor);
  }

  /**
   * Ask until Airflow has prepared the log. Return null if the user has chosen another one meanwhile.
   * @param {Open} mine
   * @param {number} tail
   * @returns {Promise<Api.LogPage | import("./api.js").ApiError | null>}
   */
  async #prepared(mine, tail) {
    while (mine === this.#open) {
      /** @type {Api.LogPage | Api.LogPreparing | import("./api.js").ApiError} */
      const answer = await orError(get(this.#address(mine, "", { tail: String(tail) })));
      if (answer instanceof Error || !("code" in answer)) return answer;
      if (mine === this.#open) this.#sayPreparing(answer);
      await new Promise((resolve) => setTimeout(resolve, PREPARING_MS));
    }
    return null;
  }

  /**
   * @param {Open} mine
   * @param {string} cursor
   */
  #follow(mine, cursor) {
    const source = new EventSource(BASE + this.#address(mine, "/stream", { cursor }));
    this.#source = source;
    this.#say("live", "Following");
    source.addEventListener("open", () => this.#say("live", "Following"));
    source.addEventListener("log", (event) => {
      this.#say("live", "Following");
      this.#lines.add(JSON.parse(event.data).lines);
    });
    source.addEventListener("preparing", (event) => this.#sayPreparing(JSON.parse(event.data)));
    source.addEventListener("end", () => {
      source.close();
      this.#say("idle", "The log has ended.");
    });
    source.addEventListener("error", (event) => this.#interrupted(mine, source, event));
  }

  /**
   * Handle `error`, which is also the name of the API's own event when it cannot go on. Only that one has data.
   * @param {Open} mine
   * @param {EventSource} source
   * @param {Event} event
   */
  #interrupted(mine, source, event) {
    if (event instanceof MessageEvent && event.data) {
      source.close();
      this.#fail(mine, JSON.parse(event.data).detail);
    } else if (source.readyState === EventSource.CLOSED) this.#fail(mine, "The log cannot be followed now.");
    else this.#say("idle", "Reconnecting…");
  }

  /**
   * @param {Open} mine
   * @param {string} suffix
   * @param {Record<string, string>} more
   */
  #address({ task, index, attempt }, suffix, more) {
    const query = new URLSearchParams({ map_index: String(index), try_number: String(attempt), ...more });
    return `${this.#path}/tasks/${encodeURIComponent(task)}/logs${suffix}?${query}`;
  }

  // --- showing ----------------------------------------------------------------------------------------------

  /**
   * @param {Open} mine
   * @param {Api.LogLine[]} lines
   * @param {number} tail
   */
  #offerMore(mine, lines, tail) {
    const isCut = lengthOf(lines) >= NEARLY_A_MEGABYTE;
    if (lines.length < tail && !isCut) return;
    const more = tail < MOST_LINES && !isCut && this.#againButton("Show more", mine, MOST_LINES);
    const count = lines.length.toLocaleString();
    fill(this.#notice, `Only the last ${count} lines are shown. `, more || "The API returns the whole log.");
  }

  /**
   * @param {string} text
   * @param {Open} mine
   * @param {number} tail
   */
  #againButton(text, mine, tail) {
    const again = () => {
      if (mine !== this.#open) return;
      this.#source?.close();
      this.#read(mine, tail);
    };
    return el("button", { class: "button small", type: "button", click: again }, text);
  }

  /**
   * @param {"idle" | "live"} state
   * @param {string} text
   */
  #say(state, text) {
    this.#status.dataset.state = state;
    if (this.#status.textContent !== text) fill(this.#status, text);
  }

  /** @param {Api.LogPreparing} answer */
  #sayPreparing({ detail, waited_s: seconds }) {
    this.#say("idle", `${detail} It has taken ${Math.round(seconds)} s so far.`);
  }

  /**
   * @param {Open} mine
   * @param {string} message
   */
  #fail(mine, message) {
    this.#status.dataset.state = "problem";
    fill(this.#status, `${message} `, this.#againButton("Try again", mine, FIRST_LINES));
  }
}
