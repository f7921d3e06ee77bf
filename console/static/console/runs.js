// The list of runs, newest first.

import { get, runPath } from "./api.js";
import { unusableNote } from "./badges.js";
import { el, fill } from "./dom.js";
import { refresher } from "./refresh.js";
import { addressOf, FILTERS, PAGE_SIZE, queryOf, runsBelow } from "./run-list.js";
import { RunRow } from "./run-row.js";
import { toastError } from "./toasts.js";

const PAUSE_MS = 400;

export class RunsPage {
  #filters;
  #workflows;
  #showFreshness;
  /** @type {Api.Run[]} */
  #runs = [];
  /** @type {string | null} */
  #next = null;
  /** @type {Map<string, RunRow>} */
  #rows = new Map();
  #isLoaded = false;
  #isLeft = false;
  #body = el("tbody");
  #rest = el("div", { class: "rest" });
  #note = el("div");
  #choice;
  element;
  runId = null;

  /**
   * @param {import("./run-list.js").Filters} filters
   * @param {View.Context} context
   */
  constructor(filters, { workflows, showFreshness }) {
    this.#filters = filters;
    this.#workflows = workflows;
    this.#showFreshness = showFreshness;
    this.refresh = refresher(() => this.#fetchFirst(), PAUSE_MS);
    const choose = () => {
      location.hash = addressOf({ ...filters, workflow: this.#choice.value });
    };
    this.#choice = el("select", { "aria-label": "Workflow", change: choose });
    const content = [this.#head(), this.#note, this.#table(), this.#rest];
    this.element = el("section", { class: "runs", "aria-labelledby": "runs-heading" }, content);
    this.workflowsChanged();
  }

  title = () => "Runs";

  start() {
    this.refresh();
  }

  point() {}

  leave() {
    this.#isLeft = true;
  }

  /**
   * Fetch the first page again, and the changed runs below it one by one.
   * @param {Api.LogEvent[]} events
   */
  take(events) {
    this.refresh();
    const changed = new Set(events.map((event) => event.run_id));
    const below = this.#runs.slice(PAGE_SIZE).filter((run) => changed.has(run.id));
    for (const run of below) this.#fetchOne(run).catch(toastError);
  }

  reset() {}

  workflowsChanged() {
    const chosen = this.#filters.workflow;
    this.#workflows.choose(chosen ? Number(chosen) : null);
    const options = this.#workflows.all.map(({ id, name }) =>
      el("option", { value: id, selected: String(id) === chosen }, name),
    );
    fill(this.#choice, el("option", { value: "" }, "All workflows"), options);
    const workflow = this.#workflows.all.find(({ id }) => String(id) === chosen);
    fill(this.#note, workflow && unusableNote(this.#workflows.whyUnusable(workflow)));
    if (this.#isLoaded) this.#render();
  }

  // --- fetching ---------------------------------------------------------------------------------------------

  async #fetchFirst() {
    if (this.#isLeft) return;
    /** @type {Api.Page<Api.Run>} */
    const page = await get(`/runs?${queryOf(this.#filters)}`);
    const below = runsBelow(this.#runs, page);
    if (!below.length) this.#next = page.next;
    this.#show([...page.results, ...below]);
  }

  async #fetchMore() {
    if (!this.#next) return;
    /** @type {Api.Page<Api.Run>} */
    const page = await get(this.#next);
    const known = new Set(this.#runs.map((run) => run.id));
    this.#next = page.next;
    this.#show([...this.#runs, ...page.results.filter((run) => !known.has(run.id))]);
  }

  /** @param {Api.Run} run */
  async #fetchOne(run) {
    /** @type {Api.Run} */
    const now = await get(runPath(run.workflow_id, run.id));
    this.#show(this.#runs.map((one) => (one.id === now.id ? now : one)));
  }

  // --- showing ----------------------------------------------------------------------------------------------

  #head() {
    const { state = "" } = this.#filters;
    const chips = FILTERS.map(({ name, text }) => {
      const href = addressOf({ ...this.#filters, state: name });
      return el("a", { class: "chip", href, "aria-current": name === state && "true" }, text);
    });
    const heading = el("h1", { id: "runs-heading" }, "Runs");
    const nav = el("nav", { class: "chips", "aria-label": "State" }, chips);
    return el("header", { class: "page-head" }, heading, nav, this.#choice);
  }

  #table() {
    const names = ["State", "Workflow", "Run", "By", "Triggered", "Took"];
    const heads = names.map((name) => el("th", { scope: "col" }, name));
    return el("table", { class: "run-table" }, el("thead", {}, el("tr", {}, heads)), this.#body);
  }

  /** @param {Api.Run[]} runs */
  #show(runs) {
    if (this.#isLeft) return;
    this.#runs = runs;
    this.#isLoaded = true;
    this.#workflows.airflows.add(runs);
    if (runs.length) this.#showFreshness(runs);
    this.#render();
  }

  #render() {
    this.#rows = new Map(this.#runs.map((run) => [run.id, this.#rowOf(run)]));
    const elements = [...this.#rows.values()].map((row) => row.element);
    // A row loses the focus when it is moved. So rows are only moved when their order has changed.
    const { children } = this.#body;
    if (elements.length !== children.length || elements.some((row, at) => row !== children[at])) {
      this.#body.replaceChildren(...elements);
    }
    this.element.classList.toggle("is-empty", !elements.length);
    fill(this.#rest, elements.length ? this.#moreButton() : this.#nothing());
  }

  /** @param {Api.Run} run */
  #rowOf(run) {
    const row = this.#rows.get(run.id) ?? new RunRow();
    row.show(run, this.#workflows.airflows.shown(run.airflow));
    return row;
  }

  #moreButton() {
    const click = () => this.#fetchMore().catch(toastError);
    return this.#next && el("button", { class: "button", type: "button", click }, "Load older runs");
  }

  #nothing() {
    if (this.#filters.state || this.#filters.workflow) {
      const all = el("a", { class: "button", href: "#/runs" }, "Show all runs");
      return el("div", { class: "empty" }, el("p", {}, "No run matches."), all);
    }
    const canTrigger = this.#workflows.can("run:trigger");
    const advice = canTrigger
      ? "Click Trigger beside a workflow to start the first one. It appears here at once."
      : "Runs appear here when somebody triggers a workflow.";
    const link =
      canTrigger && el("a", { class: "button primary narrow-only", href: "#/workflows" }, "Choose a workflow");
    return el(
      "div",
      { class: "empty" },
      el("p", {}, "Nothing has run yet."),
      el("p", { class: "quiet" }, advice),
      link,
    );
  }
}
