// The list of workflows at the side of the page.

import { Airflows, dagKey } from "./airflows.js";
import { ApiError, get, getAll } from "./api.js";
import { pausedBadge, unusableNote } from "./badges.js";
import { byId, el, fill, keepFocus } from "./dom.js";
import { openDagPause, openDagResume } from "./pause.js";
import { toastError } from "./toasts.js";
import { openTrigger } from "./trigger.js";

export class Workflows {
  /** @type {Api.Workflow[]} */
  all = [];
  airflows = new Airflows();
  /** @type {Map<string, Api.Dag>} */
  #dags = new Map();
  /** @type {number | null} */
  #chosen = null;
  #changed;
  #list = byId("workflows");
  #search = /** @type {HTMLInputElement} */ (byId("search"));

  /**
   * @param {Api.Me} me the user; their scopes decide which buttons there are
   * @param {() => unknown} changed is called after each load
   */
  constructor(me, changed) {
    this.me = me;
    this.#changed = changed;
    this.#search.addEventListener("input", () => this.#render());
  }

  async load() {
    const [workflows, dags] = await Promise.all([
      getAll("/workflows?page_size=200&ordering=name&include=hindrance"),
      getAll("/dags?page_size=200"),
    ]);
    this.all = workflows;
    this.airflows.add(workflows);
    this.#dags = new Map(dags.map((dag) => [dagKey(dag), dag]));
    this.#render();
    this.#changed();
  }

  /** @param {string} scope */
  can = (scope) => this.me.scopes.includes(scope);

  /** @param {number} id */
  nameOf = (id) => this.all.find((one) => one.id === id)?.name ?? `Workflow ${id}`;

  /**
   * Why SVOps cannot use the DAG, or what Airflow refuses it there; "" if nothing, or if the user cannot see the DAG.
   * @param {{ airflow: string, dag_id: string }} named the workflow or the run
   */
  whyUnusable(named) {
    const dag = this.#dags.get(dagKey(named));
    return dag?.unusable_reason || dag?.refused_reason || "";
  }

  /**
   * Whether the workflow was deleted. Its runs can still be read.
   * @param {number} id
   */
  async isDeleted(id) {
    try {
      await get(`/workflows/${id}`);
      return false;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return true;
      throw error;
    }
  }

  /**
   * Mark the workflow that the list of runs is filtered by.
   * @param {number | null} id
   */
  choose(id) {
    if (this.#chosen === id) return;
    this.#chosen = id;
    this.#render();
  }

  #render() {
    const typed = this.#search.value.trim().toLowerCase();
    const found = this.all.filter((one) => textOf(one).includes(typed));
    const content = found.length ? found.map((one) => this.#card(one)) : this.#nothing(typed);
    keepFocus(this.#list, () => fill(this.#list, content));
  }

  /** @param {Api.Workflow} workflow */
  #card(workflow) {
    const { id, name, dag_id: dagId, description } = workflow;
    const isChosen = id === this.#chosen;
    const airflow = this.airflows.shown(workflow.airflow);
    const href = isChosen ? "#/runs" : `#/runs?workflow=${id}`;
    return el(
      "li",
      { class: "workflow", data: { workflow: id } },
      el("a", { href, "aria-current": isChosen && "true", data: { key: `workflow ${id}` } }, name),
      el("code", { class: "quiet small", title: dagId }, dagId, airflow && ` in ${airflow}`),
      this.can("run:control") && this.#pauseButton(workflow),
      this.#marks(workflow),
      unusableNote(this.whyUnusable(workflow)),
      description && el("p", { class: "quiet small about", title: description }, description),
      this.can("run:trigger") && this.#triggerButton(workflow),
    );
  }

  /** @param {Api.Workflow} workflow */
  #marks(workflow) {
    const dag = this.#dags.get(dagKey(workflow));
    const marks = [
      !workflow.is_active && "not active",
      workflow.visibility === "private" && "private",
      dag?.has_import_error && "import error",
      dag && !dag.is_present && "gone from Airflow",
    ].filter(Boolean);
    if (!marks.length && !workflow.is_paused) return null;
    const spans = marks.map((mark) => el("span", { class: "mark" }, mark));
    return el("span", { class: "marks" }, workflow.is_paused && pausedBadge(), spans);
  }

  /** @param {Api.Workflow} workflow */
  #pauseButton(workflow) {
    const { id, name, is_paused: isPaused } = workflow;
    const word = isPaused ? "Resume" : "Pause";
    const open = isPaused ? openDagResume : openDagPause;
    return cardButton(word, name, {
      class: `button small ${isPaused ? "" : "ghost"}`,
      data: { key: `pause ${id}` },
      click: () => open(workflow, () => this.load()),
    });
  }

  /** @param {Api.Workflow} workflow */
  #triggerButton(workflow) {
    const reason = this.#whyNotTrigger(workflow);
    const show = (/** @type {Api.Run} */ run) => {
      location.hash = `#/runs/${run.workflow_id}/${run.id}`;
    };
    return cardButton("Trigger", workflow.name, {
      class: "button small",
      disabled: Boolean(reason),
      title: reason,
      data: { key: `trigger ${workflow.id}` },
      click: () => openTrigger(workflow, show).catch(toastError),
    });
  }

  /** @param {Api.Workflow} workflow */
  #whyNotTrigger(workflow) {
    if (!workflow.is_active) return "The workflow is not active.";
    if (this.#dags.get(dagKey(workflow))?.is_present === false) return "Airflow no longer has its DAG.";
    return workflow.hindrance;
  }

  /** @param {string} typed */
  #nothing(typed) {
    if (typed) return el("li", { class: "empty" }, `No workflow matches “${typed}”.`);
    const advice = this.can("workflow:write")
      ? el("a", { href: "/docs#/workflows" }, "Create one with the API")
      : "Ask somebody who can create one";
    const text = ["A workflow makes a DAG from Airflow available here. ", advice, "."];
    return el("li", { class: "empty" }, el("p", {}, "No workflows yet."), el("p", { class: "quiet" }, text));
  }
}

/** @param {Api.Workflow} workflow */
const textOf = ({ name, dag_id: dagId, description }) => `${name} ${dagId} ${description}`.toLowerCase();

/**
 * @param {string} word
 * @param {string} name
 * @param {Dom.Properties} properties
 */
const cardButton = (word, name, properties) =>
  el("button", { type: "button", "aria-label": `${word} ${name}`, ...properties }, word);
