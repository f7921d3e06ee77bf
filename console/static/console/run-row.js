// A row in the list of runs.

import { badge, pauseBadge } from "./badges.js";
import { ago, elapsed } from "./clock.js";
import { el, fill } from "./dom.js";
import { startsLater } from "./states.js";
import { full, when } from "./times.js";

/** A row stays the same element while its run changes. So it keeps the focus. */
export class RunRow {
  #state = el("td", { class: "cell-state" });
  #link = el("a", { class: "row-link" });
  #airflow = el("span", { class: "quiet small airflow" });
  #starts = el("span", { class: "small starts" });
  #note = el("span", { class: "quiet small note" });
  #id = el("td", { class: "cell-id" });
  #by = el("td", { class: "cell-by" });
  #when = el("td", { class: "cell-when" });
  #took = el("td", { class: "cell-took" });
  #drawn = "";
  element = el(
    "tr",
    {},
    this.#state,
    el("td", { class: "cell-name" }, this.#link, this.#airflow, this.#starts, this.#note),
    this.#id,
    this.#by,
    this.#when,
    this.#took,
  );

  /**
   * @param {Api.Run} run
   * @param {string} airflow the name of its Airflow, if it is to be shown
   */
  show(run, airflow) {
    // `observed_at` changes with every poll of Airflow, but the row does not show it.
    const { observed_at: _, ...shown } = run;
    const isLater = startsLater(run);
    const now = JSON.stringify([shown, isLater, airflow]);
    if (now === this.#drawn) return;
    this.#drawn = now;
    this.element.dataset.run = run.id;
    this.#link.href = `#/runs/${run.workflow_id}/${run.id}`;
    this.#link.textContent = run.workflow_name;
    this.#airflow.textContent = airflow && `in ${airflow}`;
    fill(this.#starts, isLater && run.run_at && startOf(run.run_at));
    this.#note.textContent = run.note || (run.state === "failed" ? run.state_reason : "");
    fill(this.#state, el("span", { class: "badges" }, badge(run.state), pauseBadge(run)));
    const attempt = run.attempt > 1 && el("span", { class: "mark" }, `attempt ${run.attempt}`);
    fill(this.#id, el("code", { title: run.id }, run.id.slice(0, 8)), attempt);
    fill(this.#by, run.username ?? (run.trigger_type === "external" ? "Airflow" : "–"));
    fill(this.#when, ago(run.created_at));
    fill(this.#took, elapsed(run.started_at, run.ended_at));
  }
}

/** @param {string} runAt */
const startOf = (runAt) => el("span", { title: full(runAt) }, `starts at ${when(runAt)}`);
