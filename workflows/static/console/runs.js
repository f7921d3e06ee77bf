// The list of runs, newest first.

import { get, runPath } from "./api.js";
import { ago, elapsed, full, when } from "./clock.js";
import { el, fill } from "./dom.js";
import { refresher } from "./refresh.js";
import { ACTIVE, badge, pausedBadge, startsLater } from "./states.js";
import { toastError } from "./toasts.js";

const FILTERS = [
  ["", "All", []],
  ["active", "Active", ACTIVE],
  ["success", "Success", ["success"]],
  ["failed", "Failed", ["failed"]],
  ["stopped", "Stopped", ["stopped"]],
];
const PAGE_SIZE = 50;
const PAUSE_MS = 400;

/** The page of runs for `filters` ({state, workflow}), which come from the address. */
export class RunsPage {
  constructor(filters, { workflows, fresh }) {
    this.filters = filters;
    this.workflows = workflows;
    this.fresh = fresh;
    this.runs = [];
    this.next = null;
    this.rows = new Map();
    this.isLoaded = false;
    this.isLeft = false;
    this.refresh = refresher(() => this.#fetchHead(), PAUSE_MS);
    this.body = el("tbody");
    this.rest = el("div", { class: "rest" });
    this.choice = el("select", { "aria-label": "Workflow", change: () => this.#go({ workflow: this.choice.value }) });
    this.element = el("section", { class: "runs", "aria-labelledby": "runs-heading" }, this.#head(), this.#table(), this.rest);
    this.workflowsChanged();
  }

  title = () => "Runs";

  start() {
    this.refresh();
  }

  leave() {
    this.isLeft = true;
  }

  /** Something happened; rows further down than the first page are fetched one by one. */
  take(events) {
    this.refresh();
    const shown = new Map(this.#older().map((run) => [run.id, run]));
    const touched = new Set(events.map((event) => event.run_id).filter((id) => shown.has(id)));
    touched.forEach((id) => this.#fetchOne(shown.get(id)).catch(toastError));
  }

  workflowsChanged() {
    const chosen = this.filters.workflow;
    this.workflows.choose(chosen ? Number(chosen) : null);
    const options = this.workflows.all.map((one) => el("option", { value: one.id, selected: String(one.id) === chosen }, one.name));
    fill(this.choice, el("option", { value: "" }, "All workflows"), options);
    if (this.isLoaded) this.#render();
  }

  // --- fetching ---------------------------------------------------------------------------------------------

  #query() {
    const query = new URLSearchParams({ page_size: PAGE_SIZE });
    if (this.filters.workflow) query.set("workflow", this.filters.workflow);
    const states = FILTERS.find(([name]) => name === (this.filters.state ?? ""))?.[2] ?? [];
    states.forEach((state) => query.append("state", state));
    return query;
  }

  async #fetchHead() {
    if (this.isLeft) return;
    const page = await get(`/runs?${this.#query()}`);
    const older = this.#stillBelow(page);
    if (!older.length) this.next = page.next;
    this.#show([...page.results, ...older]);
  }

  /** The rows of later pages, unless so much is new that there would be a gap above them. */
  #stillBelow(page) {
    const known = new Set(this.runs.map((run) => run.id));
    const last = page.results.at(-1);
    if (!page.next || !page.results.some((run) => known.has(run.id))) return [];
    return this.runs.filter((run) => run.created_at < last.created_at);
  }

  async #fetchMore() {
    const page = await get(this.next);
    const known = new Set(this.runs.map((run) => run.id));
    this.next = page.next;
    this.#show([...this.runs, ...page.results.filter((run) => !known.has(run.id))]);
  }

  async #fetchOne(run) {
    const now = await get(runPath(run.workflow_id, run.id));
    this.#show(this.runs.map((one) => (one.id === now.id ? now : one)));
  }

  #older = () => this.runs.slice(PAGE_SIZE);

  // --- showing ----------------------------------------------------------------------------------------------

  #head() {
    const chips = FILTERS.map(([name, text]) =>
      el("a", { class: "chip", href: this.#address({ state: name }), "aria-current": (this.filters.state ?? "") === name && "true" }, text),
    );
    return el("header", { class: "page-head" }, el("h1", { id: "runs-heading" }, "Runs"), el("nav", { class: "chips", "aria-label": "State" }, chips), this.choice);
  }

  #table() {
    const heads = ["State", "Workflow", "Run", "By", "Triggered", "Took"].map((text) => el("th", { scope: "col" }, text));
    return el("table", { class: "run-table" }, el("thead", {}, el("tr", {}, heads)), this.body);
  }

  #show(runs) {
    if (this.isLeft) return;
    this.runs = runs;
    this.isLoaded = true;
    if (runs.length) this.fresh(runs.some((run) => run.stale));
    this.#render();
  }

  #render() {
    const rows = new Map(this.runs.map((run) => [run.id, this.rows.get(run.id) ?? new Row()]));
    this.runs.forEach((run) => rows.get(run.id).show(run));
    this.rows = rows;
    const elements = [...rows.values()].map((row) => row.element);
    // Moving a row would take the focus out of it: only when the order has changed.
    if (elements.length !== this.body.children.length || elements.some((row, at) => row !== this.body.children[at])) {
      this.body.replaceChildren(...elements);
    }
    this.element.classList.toggle("is-empty", !elements.length);
    fill(this.rest, elements.length ? this.#more() : this.#nothing());
  }

  #more() {
    return this.next && el("button", { class: "button", type: "button", click: () => this.#fetchMore().catch(toastError) }, "Load older runs");
  }

  #nothing() {
    const isNarrowed = this.filters.state || this.filters.workflow;
    if (isNarrowed) {
      return el("div", { class: "empty" }, el("p", {}, "No run matches."), el("a", { class: "button", href: "#/runs" }, "Show all runs"));
    }
    const canTrigger = this.workflows.me.scopes.includes("run:trigger");
    const how = canTrigger ? "Press Trigger beside a workflow to start the first one; it shows up here at once." : "They show up here as soon as somebody triggers a workflow.";
    return el("div", { class: "empty" }, el("p", {}, "Nothing has run yet."), el("p", { class: "quiet" }, how), canTrigger && el("a", { class: "button primary narrow-only", href: "#/workflows" }, "Choose a workflow"));
  }

  #address(change) {
    const wanted = { ...this.filters, ...change };
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    return query.size ? `#/runs?${query}` : "#/runs";
  }

  #go(change) {
    location.hash = this.#address(change);
  }
}

/** A row that stays the same element while its run changes, and so keeps the focus. */
class Row {
  constructor() {
    this.state = el("td", { class: "cell-state" });
    this.link = el("a", { class: "row-link" });
    this.starts = el("span", { class: "small starts" });
    this.note = el("span", { class: "quiet small note" });
    this.id = el("td", { class: "cell-id" });
    this.by = el("td", { class: "cell-by" });
    this.when = el("td", { class: "cell-when" });
    this.took = el("td", { class: "cell-took" });
    this.element = el("tr", {}, this.state, el("td", { class: "cell-name" }, this.link, this.starts, this.note), this.id, this.by, this.when, this.took);
    this.shown = "";
  }

  show(run) {
    // Only what is shown counts: `observed_at` changes with every look at Airflow.
    const { observed_at: _, ...seen } = run;
    const isLater = startsLater(run);
    const now = JSON.stringify([seen, isLater]);
    if (now === this.shown) return;
    this.shown = now;
    this.element.dataset.run = run.id;
    this.link.href = `#/runs/${run.workflow_id}/${run.id}`;
    this.link.textContent = run.workflow_name;
    fill(this.starts, isLater && el("span", { title: full(run.run_at) }, `starts at ${when(run.run_at)}`));
    this.note.textContent = run.note || (run.state === "failed" ? run.state_reason : "");
    fill(this.state, el("span", { class: "badges" }, badge(run.state), run.paused && pausedBadge()));
    fill(this.id, el("code", { title: run.id }, run.id.slice(0, 8)), run.attempt > 1 && el("span", { class: "mark" }, `attempt ${run.attempt}`));
    fill(this.by, run.username ?? (run.trigger_type === "external" ? "Airflow" : "–"));
    fill(this.when, ago(run.created_at));
    fill(this.took, elapsed(run.started_at, run.ended_at));
  }
}
