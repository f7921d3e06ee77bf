// The page of one run.

import { dagPath } from "./airflows.js";
import { ApiError, get, getAll, runPath } from "./api.js";
import { drawAttempts } from "./attempts.js";
import { announce, el, fill, keepFocus } from "./dom.js";
import { EventLog } from "./event-log.js";
import { GraphBox } from "./graph-box.js";
import { layersOf } from "./graph-layout.js";
import { Questions } from "./questions.js";
import { refresher } from "./refresh.js";
import { factsOf } from "./run-facts.js";
import { headOf } from "./run-head.js";
import { RunProgress } from "./run-progress.js";
import { ACTIVE, label } from "./states.js";
import { TaskLog } from "./task-log.js";
import { Timeline } from "./timeline.js";
import { toastError } from "./toasts.js";

const PAUSE_MS = 300;

/** @typedef {Record<string, string | undefined>} Filters the log to show: `task`, `map_index` and `try_number` */

export class RunPage {
  #path;
  #address;
  /** @type {Filters} */
  #filters;
  #workflows;
  #showFreshness;
  /** @type {Api.Run | null} */
  #run = null;
  /** @type {Api.TaskInstance[]} */
  #tasks = [];
  /** @type {Api.DagTask[]} */
  #graph = [];
  #isDeleted = false;
  #isLeft = false;
  #eventLog = new EventLog();
  #taskLog;
  #timeline;
  #head = el("header", { class: "run-head" });
  #progress = new RunProgress();
  #questions = new Questions();
  #graphBox = new GraphBox((task) => this.#addressOf({ task }));
  #facts = el("div");
  #attempts = el("section", { class: "panel", hidden: true });
  #ticking = setInterval(() => this.#tick(), 1000);
  element = el("section", { class: "run", "aria-busy": "true" }, el("p", { class: "quiet" }, "Loading…"));

  /**
   * @param {string} workflowId
   * @param {string} runId
   * @param {Filters} filters
   * @param {View.Context} context
   */
  constructor(workflowId, runId, filters, { workflows, showFreshness }) {
    this.#path = runPath(workflowId, runId);
    this.#address = `#/runs/${workflowId}/${runId}`;
    this.#filters = filters;
    this.#workflows = workflows;
    this.#showFreshness = showFreshness;
    this.runId = runId;
    this.workflowId = Number(workflowId);
    this.#taskLog = new TaskLog(this.#path, (log) => this.#addressOf(log));
    this.#timeline = new Timeline(({ task_id: task, map_index: index }) =>
      this.#addressOf({ task, map_index: index < 0 ? null : index }),
    );
    this.refresh = refresher(() => this.#fetch(), PAUSE_MS);
  }

  title() {
    if (!this.#run) return "Run";
    const { state, paused, pausing, workflow_name: name } = this.#run;
    const pause = (paused && ", paused") || (pausing && ", pausing") || "";
    return `${label(state)}${pause} · ${name}`;
  }

  async start() {
    this.#workflows.choose(null);
    try {
      const run = await this.#fetch();
      if (!run) return;
      const [events, dag] = await Promise.all([
        getAll(`${this.#path}/events`),
        get(dagPath(run)),
        this.#checkWorkflow(),
      ]);
      this.#eventLog.add(events);
      this.#graph = dag.tasks;
      this.#layOut();
    } catch (error) {
      this.#explain(error);
    }
  }

  /**
   * Show the log that the address names now, or none.
   * @param {Filters} filters
   */
  point(filters) {
    const { task } = this.#filters;
    this.#filters = filters;
    if (!this.#graphBox.element.isConnected) return;
    this.#taskLog.point(filters);
    this.#graphBox.choose(filters.task);
    if (task && !filters.task) this.#graphBox.focus(task);
  }

  leave() {
    this.#isLeft = true;
    this.#taskLog.leave();
    this.#graphBox.leave();
    clearInterval(this.#ticking);
  }

  /** @param {Api.LogEvent[]} events */
  take(events) {
    const mine = events.filter((event) => event.run_id === this.runId);
    this.#eventLog.add(mine);
    if (mine.length || events.some((event) => event.type.startsWith("system."))) this.refresh();
  }

  async workflowsChanged() {
    if (!this.#run) return;
    await this.#checkWorkflow().catch(toastError);
    this.#drawHead();
  }

  async reset() {
    this.#eventLog.add(await getAll(`${this.#path}/events`));
  }

  // --- fetching ---------------------------------------------------------------------------------------------

  /** @returns {Promise<Api.Run | null>} null after the user has left the page */
  async #fetch() {
    if (this.#isLeft) return null;
    const [run, tasks] = await Promise.all([get(this.#path), getAll(`${this.#path}/tasks?page_size=200`)]);
    this.#tasks = tasks;
    this.#show(run);
    return run;
  }

  async #checkWorkflow() {
    this.#isDeleted = await this.#workflows.isDeleted(this.workflowId);
  }

  /** The tasks of the run, in the order in which they run. */
  #taskIds() {
    const known = new Set(this.#tasks.map((task) => task.task_id));
    if (!this.#graph.length) return [...known];
    return layersOf(this.#graph)
      .flat()
      .filter((id) => known.has(id));
  }

  /** @param {import("./log-head.js").LogFilters} log */
  #addressOf(log) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(log)) {
      if (value !== null && value !== undefined) query.set(name, String(value));
    }
    const text = query.toString();
    return text ? `${this.#address}?${text}` : this.#address;
  }

  #tick() {
    if (this.#run && ACTIVE.includes(this.#run.state)) this.#timeline.tick();
  }

  // --- showing ----------------------------------------------------------------------------------------------

  #layOut() {
    if (!this.#run) return;
    const hint = el("span", { class: "aside" }, "click one to see its log");
    const main = [panel("Timeline", this.#timeline.element), panel("Events", this.#eventLog.element)];
    const aside = [panel("Details", this.#facts), this.#attempts];
    this.element.removeAttribute("aria-busy");
    fill(
      this.element,
      this.#head,
      this.#progress.element,
      this.#questions.element,
      panel(["Tasks ", hint], this.#graphBox.element),
      this.#taskLog.element,
      el("div", { class: "run-grid" }, el("div", { class: "column" }, main), el("div", { class: "column" }, aside)),
    );
    this.#show(this.#run);
    this.point(this.#filters);
  }

  /**
   * The answer to an action has no attempts. The known ones stay.
   * @param {Api.Run} run
   */
  #show(run) {
    if (this.#isLeft) return;
    this.#announceChange(run);
    this.#run = { ...this.#run, ...run };
    this.#workflows.airflows.add([run]);
    this.#showFreshness([run]);
    this.#drawHead();
    this.#progress.show(run, this.#tasks, this.#graph.length);
    this.#questions.show(ACTIVE.includes(run.state) ? this.#tasks : []);
    this.#graphBox.show(this.#graph, this.#tasks);
    this.#timeline.show(this.#tasks);
    this.#taskLog.take(this.#tasks);
    fill(this.#facts, factsOf(run, this.#workflows.airflows.shown(run.airflow)));
    this.#drawAttempts(this.#run.attempts ?? []);
    this.element.dispatchEvent(new Event("titlechange", { bubbles: true }));
  }

  /** @param {Api.Run} run */
  #announceChange(run) {
    const { state, paused, pausing } = this.#run ?? run;
    const name = run.workflow_name;
    if (state !== run.state) announce(`${name} is now ${label(run.state).toLowerCase()}.`);
    else if (run.pausing && !pausing) announce(`${name} is pausing.`);
    else if (paused !== run.paused || pausing !== run.pausing)
      announce(`${name} is ${run.paused ? "paused" : "resumed"}.`);
  }

  #drawHead() {
    const run = this.#run;
    if (!run) return;
    const controls = {
      canControl: this.#workflows.can("run:control"),
      isDeleted: this.#isDeleted,
      nameOf: this.#workflows.nameOf,
      whyUnusable: this.#workflows.whyUnusable(run),
      taskIds: () => this.#taskIds(),
      tasks: () => this.#tasks,
      changed: (/** @type {Api.Run} */ now) => {
        this.#show(now);
        this.refresh();
      },
    };
    keepFocus(this.#head, () => fill(this.#head, ...headOf(run, controls)));
  }

  /** @param {Api.Attempt[]} attempts */
  #drawAttempts(attempts) {
    this.#attempts.hidden = !attempts.length;
    fill(this.#attempts, el("h2", {}, "Earlier attempts"), drawAttempts(attempts));
  }

  /** @param {unknown} error */
  #explain(error) {
    const isMissing = error instanceof ApiError && error.status === 404;
    if (!isMissing) toastError(error);
    const message = error instanceof Error ? error.message : String(error);
    const text = isMissing ? "There is no such run, or you cannot see it." : message;
    const all = el("a", { class: "button", href: "#/runs" }, "Show all runs");
    fill(this.element, el("div", { class: "empty" }, el("p", {}, text), all));
  }
}

/**
 * @param {Dom.Child} title
 * @param {Dom.Child} content
 */
const panel = (title, content) => el("section", { class: "panel" }, el("h2", {}, title), content);
