// The top of the page: whether the stream is connected, and the banner.

import { called } from "./airflows.js";
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
  /** @type {Set<string>} */
  #down = new Set();

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
    this.showFreshness(this.#down.size > 0);
  }

  /**
   * @param {boolean} isStale whether the states that the page shows may be old
   * @param {string} airflow the name of the Airflow that they are from, if it is to be shown
   */
  showFreshness(isStale, airflow = "") {
    // The more important banner stays.
    if (ENDED.includes(this.#pill.dataset.state ?? "")) return;
    if (isStale) {
      const [name] = this.#down;
      this.#show(
        name
          ? `${called(name)} does not answer.`
          : `SVOps has no news from ${airflow ? `the Airflow ${airflow}` : "Airflow"}.`,
        OLD,
      );
      return;
    }
    this.#down.clear();
    this.#banner.hidden = true;
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
