// The list of workflows at the side.

import { getAll } from "./api.js";
import { el, fill, keepFocus } from "./dom.js";
import { openDagPause, openDagResume } from "./pause.js";
import { pausedBadge } from "./states.js";
import { openTrigger } from "./trigger.js";
import { toastError } from "./toasts.js";

/** The side of the page. `me` decides what may be pressed; `changed` is called when the workflows were fetched. */
export class Workflows {
  constructor(me, changed) {
    this.me = me;
    this.changed = changed;
    this.all = [];
    this.dags = new Map();
    this.chosen = null;
    this.list = document.getElementById("workflows");
    this.search = document.getElementById("search");
    this.search.addEventListener("input", () => this.render());
  }

  async load() {
    const [workflows, dags] = await Promise.all([getAll("/workflows?page_size=200&ordering=name"), getAll("/dags?page_size=200")]);
    this.all = workflows;
    this.dags = new Map(dags.map((dag) => [dag.dag_id, dag]));
    this.render();
    this.changed();
  }

  nameOf = (id) => this.all.find((one) => one.id === id)?.name ?? `Workflow ${id}`;

  /** Mark the workflow that the runs are narrowed to. */
  choose(id) {
    if (this.chosen === id) return;
    this.chosen = id;
    this.render();
  }

  render() {
    const wanted = this.search.value.trim().toLowerCase();
    const found = this.all.filter((one) => `${one.name} ${one.dag_id} ${one.description}`.toLowerCase().includes(wanted));
    keepFocus(this.list, () => fill(this.list, found.length ? found.map((one) => this.#card(one)) : this.#nothing(wanted)));
  }

  #card(workflow) {
    const isChosen = workflow.id === this.chosen;
    const link = el("a", { href: isChosen ? "#/runs" : `#/runs?workflow=${workflow.id}`, "aria-current": isChosen && "true", data: { key: `workflow ${workflow.id}` } }, workflow.name);
    return el(
      "li",
      { class: "workflow", data: { workflow: workflow.id } },
      link,
      el("code", { class: "quiet small", title: workflow.dag_id }, workflow.dag_id),
      this.me.scopes.includes("run:control") && this.#pause(workflow),
      this.#marks(workflow),
      workflow.description && el("p", { class: "quiet small about", title: workflow.description }, workflow.description),
      this.me.scopes.includes("run:trigger") && this.#trigger(workflow),
    );
  }

  #marks(workflow) {
    const dag = this.dags.get(workflow.dag_id);
    const marks = [
      !workflow.is_active && "not active",
      workflow.visibility === "private" && "private",
      dag?.import_error && "import error",
      dag && !dag.is_present && "gone from Airflow",
    ].filter(Boolean);
    if (!marks.length && !workflow.is_paused) return null;
    return el("span", { class: "marks" }, workflow.is_paused && pausedBadge(), marks.map((mark) => el("span", { class: "mark" }, mark)));
  }

  #pause(workflow) {
    const [word, open, more] = workflow.is_paused ? ["Resume", openDagResume, ""] : ["Pause", openDagPause, "ghost"];
    return el(
      "button",
      { class: `button small ${more}`, type: "button", "aria-label": `${word} ${workflow.name}`, data: { key: `pause ${workflow.id}` }, click: () => open(workflow, () => this.load()) },
      word,
    );
  }

  #trigger(workflow) {
    const reason = this.#whyNot(workflow);
    const open = () => openTrigger(workflow, (run) => (location.hash = `#/runs/${run.workflow_id}/${run.id}`)).catch(toastError);
    return el(
      "button",
      { class: "button small", type: "button", disabled: Boolean(reason), title: reason, "aria-label": `Trigger ${workflow.name}`, data: { key: `trigger ${workflow.id}` }, click: open },
      "Trigger",
    );
  }

  #whyNot(workflow) {
    if (!workflow.is_active) return "The workflow is not active.";
    return this.dags.get(workflow.dag_id)?.is_present === false ? "Airflow does not have its DAG any more." : "";
  }

  #nothing(wanted) {
    if (wanted) return el("li", { class: "empty" }, `No workflow matches “${wanted}”.`);
    const canWrite = this.me.scopes.includes("workflow:write");
    const how = el("p", { class: "quiet" }, "A workflow makes a DAG of Airflow available under a name. ", canWrite ? el("a", { href: "/docs#/workflows" }, "Create one over the API") : "Ask somebody who may create one", ".");
    return el("li", { class: "empty" }, el("p", {}, "No workflows yet."), how);
  }
}
