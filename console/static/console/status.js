// The top of the page: whether the stream is connected, and the banner.

import { Airflows } from "./airflows.js";
import { announce, byId, el, fill } from "./dom.js";

/** @type {Record<import("./stream.js").State, string>} */
const CONNECTION = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  "signed-out": "Signed out",
  refused: "Not allowed",
};
const ENDED = ["signed-out", "refused"];
const OLD = "You see the last known states. You can still trigger runs: SVOps sends them to Airflow when it is back.";

export class Status {
  #pill = byId("connection");
  #banner = byId("banner");
  // What names them; the console's own, once it is there.
  airflows = new Airflows();
  /** @type {Set<string>} those that do not answer */
  #down = new Set();
  /** @type {Set<string>} those of which the page shows states that may be old */
  #stale = new Set();

  /**
   * @param {import("./stream.js").State} state
   * @returns {boolean} whether the state is new
   */
  showConnection(state) {
    if (this.#pill.dataset.state === state) return false;
    this.#pill.dataset.state = state;
    this.#pill.textContent = CONNECTION[state];
    if (state === "signed-out") this.#showSignIn();
    if (state === "refused") {
      this.#show("You are not allowed to follow the runs.", "Ask an administrator for the right to read workflows.");
    }
    return true;
  }

  /**
   * @param {string} name
   * @param {boolean} isDown
   */
  showAirflow(name, isDown) {
    if (isDown) this.#down.add(name);
    else this.#down.delete(name);
    this.#stale.delete(name);
    this.#draw();
  }

  /** @param {{ airflow: string, stale: boolean }[]} runs what the page shows */
  showFreshness(runs) {
    this.#stale = new Set(runs.filter(({ stale }) => stale).map(({ airflow }) => airflow));
    // Of the other Airflows these runs say nothing.
    for (const { airflow } of runs) if (!this.#stale.has(airflow)) this.#down.delete(airflow);
    this.#draw();
  }

  #draw() {
    // The more important banner stays.
    if (ENDED.includes(this.#pill.dataset.state ?? "")) return;
    const down = [...this.#down];
    const stale = [...this.#stale];
    if (down.length) {
      this.#show(`${this.airflows.called(down)} ${down.length > 1 ? "do" : "does"} not answer.`, OLD);
    } else if (stale.length) {
      this.#show(`SVOps has no news from ${this.airflows.called(stale).replace(/^The/, "the")}.`, OLD);
    } else {
      this.#banner.hidden = true;
    }
  }

  #showSignIn() {
    const link = el("a", { class: "button small", href: `/login${location.hash}` }, "Sign in");
    this.#show("You are signed out.", "Sign in to continue here.", link);
  }

  /**
   * @param {string} title
   * @param {string} text
   * @param {...Dom.Child} more
   */
  #show(title, text, ...more) {
    if (!this.#banner.hidden && this.#banner.dataset.title === title) return;
    this.#banner.dataset.title = title;
    fill(this.#banner, el("p", {}, el("strong", {}, title), " ", text), more);
    this.#banner.hidden = false;
    announce(title);
  }
}
