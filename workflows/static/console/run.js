// The page of one run.

import { get, getAll, runPath } from "./api.js";
import { drawAttempts } from "./attempts.js";
import { ago, elapsed, full, when } from "./clock.js";
import { openRetry, openStop, whyNotRetry, whyNotStop } from "./control.js";
import { announce, el, fill, focusKey, keepFocus } from "./dom.js";
import { EventLog } from "./event-log.js";
import { openWhy } from "./explain.js";
import { drawGraph, layersOf } from "./graph.js";
import { openPause, openResume, whyNotPause } from "./pause.js";
import { refresher } from "./refresh.js";
import { ACTIVE, badge, isTaskDone, label, pausedBadge, startsLater } from "./states.js";
import { TaskLog } from "./task-log.js";
import { Timeline } from "./timeline.js";
import { toastError } from "./toasts.js";

const PAUSE_MS = 300;

/** `filters` ({task, map_index, try_number}), which come from the address, name the log that is shown. */
export class RunPage {
  constructor(workflowId, runId, filters, { workflows, fresh }) {
    this.path = runPath(workflowId, runId);
    this.runId = runId;
    this.filters = filters;
    this.address = `#/runs/${workflowId}/${runId}`;
    this.workflows = workflows;
    this.fresh = fresh;
    this.run = null;
    this.tasks = [];
    this.graph = [];
    this.log = new EventLog();
    this.taskLog = new TaskLog(this.path, (log) => this.#addressOf(log));
    this.timeline = new Timeline((one) => this.#addressOf({ task: one.task_id, map_index: one.map_index < 0 ? null : one.map_index }));
    this.isLeft = false;
    this.refresh = refresher(() => this.#fetch(), PAUSE_MS);
    this.head = el("header", { class: "run-head" });
    this.progress = el("progress", { max: 1, value: 0, "aria-label": "Tasks ended" });
    this.progressText = el("span", { class: "quiet small" });
    this.graphBox = el("div", { class: "graph-box" });
    this.drawn = "";
    this.facts = el("div");
    this.attempts = el("section", { class: "panel", hidden: true });
    this.element = el("section", { class: "run", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading…"));
    this.sizes = new ResizeObserver(() => this.#drawGraph());
    this.ticking = setInterval(() => this.#isGoing() && this.timeline.tick(), 1000);
  }

  title = () => (this.run ? `${label(this.run.state)}${this.run.paused ? ", paused" : ""} · ${this.run.workflow_name}` : "Run");

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

  /** Show the log that the address names now, or none. */
  point(filters) {
    const { task } = this.filters;
    this.filters = filters;
    if (!this.graphBox.isConnected) return;
    this.taskLog.point(filters);
    this.#drawGraph();
    if (task && !filters.task) focusKey(`task ${task}`, this.graphBox);
  }

  leave() {
    this.isLeft = true;
    this.taskLog.leave();
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

  #addressOf(log) {
    const query = new URLSearchParams(Object.entries(log).filter(([, value]) => value !== null && value !== undefined));
    return query.size ? `${this.address}?${query}` : this.address;
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
      panel(["Tasks ", el("span", { class: "aside" }, "press one to see its log")], this.graphBox),
      this.taskLog.element,
      el(
        "div",
        { class: "run-grid" },
        el("div", { class: "column" }, panel("Timeline", this.timeline.element), panel("Events", this.log.element)),
        el("div", { class: "column" }, panel("Details", this.facts), this.attempts),
      ),
    );
    this.sizes.observe(this.graphBox);
    this.#show(this.run);
    this.point(this.filters);
  }

  /** What an action answers has no attempts: those that are known stay. */
  #show(run) {
    if (this.isLeft) return;
    this.#tell(run);
    this.run = { ...this.run, ...run };
    this.fresh(run.stale);
    this.#drawHead();
    this.#drawProgress();
    this.#drawGraph();
    this.timeline.show(this.tasks);
    this.taskLog.take(this.tasks);
    this.#drawFacts();
    this.#drawAttempts();
    this.element.dispatchEvent(new Event("titlechange", { bubbles: true }));
  }

  #tell(run) {
    if (!this.run) return;
    if (this.run.state !== run.state) announce(`${run.workflow_name} is now ${label(run.state).toLowerCase()}.`);
    else if (this.run.paused !== run.paused) announce(`${run.workflow_name} ${run.paused ? "is paused" : "goes on"}.`);
  }

  #drawHead() {
    keepFocus(this.head, () => fill(this.head, this.#headOf(this.run)));
  }

  #headOf(run) {
    return [
      el("a", { class: "back", href: "#/runs", data: { key: "back" } }, "← Runs"),
      el("div", { class: "run-title" }, el("h1", {}, run.workflow_name), badge(run.state), run.paused && pausedBadge(), run.attempt > 1 && el("span", { class: "mark" }, `attempt ${run.attempt}`)),
      el("p", { class: "run-sub quiet" }, el("code", {}, run.id.slice(0, 8)), " · by ", run.username ?? "Airflow", " · ", ago(run.created_at), startsLater(run) && ` · starts at ${when(run.run_at)}`, run.started_at && (run.ended_at ? " · took " : " · going for "), run.started_at && elapsed(run.started_at, run.ended_at)),
      run.state_reason && el("p", { class: "reason", data: { tone: run.state } }, run.state_reason),
      this.#buttons(run),
    ];
  }

  #buttons(run) {
    return el(
      "div",
      { class: "actions" },
      this.#isGoing() && button("Why is it waiting?", "why", "", () => openWhy(this.run)),
      this.workflows.me.scopes.includes("run:control") && this.#controls(run),
    );
  }

  #controls(run) {
    const changed = (now) => {
      this.#show(now);
      this.refresh();
    };
    return [
      run.paused
        ? button("Resume", "pause", "", () => openResume(this.run, changed))
        : button("Pause", "pause", whyNotPause(run), () => openPause(this.run, (id) => this.workflows.nameOf(id), changed)),
      button("Stop", "stop", whyNotStop(run), () => openStop(this.run, changed)),
      button("Retry", "retry", whyNotRetry(run), () => openRetry(this.run, this.#taskIds(), changed)),
    ];
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
    const width = this.graphBox.clientWidth;
    const now = JSON.stringify([width, this.graph, this.filters.task, this.tasks.map((task) => [task.task_id, task.map_index, task.state])]);
    if (now === this.drawn) return;
    this.drawn = now;
    if (!this.graph.length) fill(this.graphBox, el("p", { class: "quiet" }, "The DAG has no tasks that are known here."));
    else keepFocus(this.graphBox, () => fill(this.graphBox, drawGraph(this.graph, this.tasks, width, (task) => this.#addressOf({ task }), this.filters.task)));
  }

  #drawAttempts() {
    const { attempts = [] } = this.run;
    this.attempts.hidden = !attempts.length;
    fill(this.attempts, el("h2", {}, "Earlier attempts"), drawAttempts(attempts));
  }

  #drawFacts() {
    const run = this.run;
    const facts = [
      ["Workflow", el("a", { href: `#/runs?workflow=${run.workflow_id}` }, run.workflow_name)],
      ["DAG", el("code", {}, run.dag_id)],
      ["Run in Airflow", el("code", {}, run.dag_run_id)],
      ["Triggered by", `${run.username ?? "Airflow"} (${run.trigger_type})`],
      run.run_at && ["To start at", full(run.run_at)],
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

function button(text, key, reason, click) {
  return el("button", { class: `button ${key === "stop" ? "danger-quiet" : ""}`, type: "button", disabled: Boolean(reason), title: reason, data: { key }, click }, text);
}

const pairs = (entries) => el("dl", { class: "facts" }, entries.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
