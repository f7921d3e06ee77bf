// The page of one run.

import { get, getAll, runPath } from "./api.js";
import { ago, elapsed } from "./clock.js";
import { openRetry, openStop, whyNotRetry, whyNotStop } from "./control.js";
import { announce, el, fill } from "./dom.js";
import { EventLog } from "./event-log.js";
import { drawGraph, layersOf } from "./graph.js";
import { refresher } from "./refresh.js";
import { ACTIVE, badge, isTaskDone, label } from "./states.js";
import { drawTimeline } from "./timeline.js";
import { toastError } from "./toasts.js";

const PAUSE_MS = 300;

export class RunPage {
  constructor(workflowId, runId, { workflows, fresh }) {
    this.path = runPath(workflowId, runId);
    this.runId = runId;
    this.workflows = workflows;
    this.fresh = fresh;
    this.run = null;
    this.tasks = [];
    this.graph = [];
    this.log = new EventLog();
    this.isLeft = false;
    this.refresh = refresher(() => this.#fetch(), PAUSE_MS);
    this.head = el("header", { class: "run-head" });
    this.progress = el("progress", { max: 1, value: 0, "aria-label": "Tasks ended" });
    this.progressText = el("span", { class: "quiet small" });
    this.graphBox = el("div", { class: "graph-box" });
    this.timelineBox = el("div");
    this.facts = el("div");
    this.element = el("section", { class: "run", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading…"));
    this.sizes = new ResizeObserver(() => this.#drawGraph());
    this.ticking = setInterval(() => this.#isGoing() && this.#drawTimeline(), 1000);
  }

  title = () => (this.run ? `${label(this.run.state)} · ${this.run.workflow_name}` : "Run");

  async start() {
    this.workflows.choose(null);
    try {
      await this.#fetch();
      const [events, dag] = await Promise.all([getAll(`${this.path}/events`), get(`/dags/${encodeURIComponent(this.run.dag_id)}`)]);
      this.log.add(events);
      this.graph = dag.tasks;
      this.#layOut();
    } catch (error) {
      this.#explain(error);
    }
  }

  leave() {
    this.isLeft = true;
    this.sizes.disconnect();
    clearInterval(this.ticking);
  }

  take(events) {
    const mine = events.filter((event) => event.run_id === this.runId);
    this.log.add(mine);
    if (mine.length || events.some((event) => event.type.startsWith("system."))) this.refresh();
  }

  workflowsChanged() {}

  async reset() {
    this.log.add(await getAll(`${this.path}/events`));
  }

  async #fetch() {
    if (this.isLeft) return;
    const [run, tasks] = await Promise.all([get(this.path), get(`${this.path}/tasks`)]);
    this.tasks = tasks;
    this.#show(run);
  }

  /** In the order in which they run. */
  #taskIds() {
    const known = new Set(this.tasks.map((task) => task.task_id));
    return this.graph.length ? layersOf(this.graph).flat().filter((id) => known.has(id)) : [...known];
  }

  #isGoing = () => this.run && ACTIVE.includes(this.run.state);

  // --- showing ----------------------------------------------------------------------------------------------

  #layOut() {
    const panel = (title, ...content) => el("section", { class: "panel" }, el("h2", {}, title), content);
    this.element.removeAttribute("aria-busy");
    fill(
      this.element,
      this.head,
      el("div", { class: "progress" }, this.progress, this.progressText),
      panel("Tasks", this.graphBox),
      el(
        "div",
        { class: "run-grid" },
        el("div", { class: "column" }, panel("Timeline", this.timelineBox), panel("Events", this.log.element)),
        panel("Details", this.facts),
      ),
    );
    this.sizes.observe(this.graphBox);
    this.#show(this.run);
  }

  #show(run) {
    if (this.isLeft) return;
    if (this.run && this.run.state !== run.state) announce(`${run.workflow_name} is now ${label(run.state).toLowerCase()}.`);
    this.run = run;
    this.fresh(run.stale);
    this.#drawHead();
    this.#drawProgress();
    this.#drawGraph();
    this.#drawTimeline();
    this.#drawFacts();
    this.element.dispatchEvent(new Event("titlechange", { bubbles: true }));
  }

  #drawHead() {
    const run = this.run;
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    fill(
      this.head,
      el("a", { class: "back", href: "#/runs", data: { action: "back" } }, "← Runs"),
      el("div", { class: "run-title" }, el("h1", {}, run.workflow_name), badge(run.state), run.paused && el("span", { class: "mark" }, "paused"), run.attempt > 1 && el("span", { class: "mark" }, `attempt ${run.attempt}`)),
      el("p", { class: "run-sub quiet" }, el("code", {}, run.id.slice(0, 8)), " · by ", run.username ?? "Airflow", " · ", ago(run.created_at), run.started_at && (run.ended_at ? " · took " : " · going for "), run.started_at && elapsed(run.started_at, run.ended_at)),
      run.state_reason && el("p", { class: "reason", data: { tone: run.state } }, run.state_reason),
      this.workflows.me.scopes.includes("run:control") && this.#buttons(),
    );
    if (focused) this.head.querySelector(`[data-action=${focused}]`)?.focus();
  }

  #buttons() {
    const changed = (run) => {
      this.#show(run);
      this.refresh();
    };
    return el(
      "div",
      { class: "actions" },
      button("Stop", "stop", whyNotStop(this.run), () => openStop(this.run, changed)),
      button("Retry", "retry", whyNotRetry(this.run), () => openRetry(this.run, this.#taskIds(), changed)),
    );
  }

  #drawProgress() {
    const done = this.tasks.filter((task) => isTaskDone(task.state)).length;
    const total = Math.max(this.tasks.length, this.graph.length);
    this.progress.value = total ? done / total : 0;
    this.progress.dataset.state = this.run.state;
    this.progressText.textContent = `${done} of ${total} tasks ended`;
  }

  #drawGraph() {
    if (!this.graphBox.isConnected) return;
    if (!this.graph.length) fill(this.graphBox, el("p", { class: "quiet" }, "The DAG has no tasks that are known here."));
    else fill(this.graphBox, drawGraph(this.graph, this.tasks, this.graphBox.clientWidth));
  }

  #drawTimeline() {
    fill(this.timelineBox, drawTimeline(this.tasks));
  }

  #drawFacts() {
    const run = this.run;
    const facts = [
      ["Workflow", el("a", { href: `#/runs?workflow=${run.workflow_id}` }, run.workflow_name)],
      ["DAG", el("code", {}, run.dag_id)],
      ["Run in Airflow", el("code", {}, run.dag_run_id)],
      ["Triggered by", `${run.username ?? "Airflow"} (${run.trigger_type})`],
      run.note && ["Note", run.note],
      run.task_id !== null && ["Your task", el("code", {}, String(run.task_id))],
      run.dataset_id !== null && ["Your dataset", el("code", {}, String(run.dataset_id))],
      ["Seen in Airflow", ago(run.observed_at)],
    ].filter(Boolean);
    const parameters = Object.entries(run.parameters).map(([name, value]) => [el("code", {}, name), el("code", {}, JSON.stringify(value))]);
    fill(this.facts, pairs(facts), el("h3", {}, "Parameters"), parameters.length ? pairs(parameters) : el("p", { class: "quiet" }, "None."));
  }

  #explain(error) {
    if (error.status !== 404) toastError(error);
    const words = error.status === 404 ? "There is no such run, or none that you may see." : error.message;
    fill(this.element, el("div", { class: "empty" }, el("p", {}, words), el("a", { class: "button", href: "#/runs" }, "Show all runs")));
  }
}

function button(text, action, reason, click) {
  return el("button", { class: `button ${action === "stop" ? "danger-quiet" : ""}`, type: "button", disabled: Boolean(reason), title: reason, data: { action }, click }, text);
}

const pairs = (entries) => el("dl", { class: "facts" }, entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
