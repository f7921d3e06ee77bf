// The place of the task graph on the page of a run.

import { el, fill, focusKey, keepFocus } from "./dom.js";
import { drawGraph } from "./graph.js";

/** Draws the graph again when its place gets another width, or when something has changed. */
export class GraphBox {
  /** @type {Api.DagTask[]} */
  #graph = [];
  /** @type {Api.TaskInstance[]} */
  #instances = [];
  /** @type {string | undefined} */
  #chosen;
  #addressOf;
  #drawn = "";
  #sizes = new ResizeObserver(() => this.#draw());
  element = el("div", { class: "graph-box" });

  /** @param {(taskId: string) => string} addressOf where a click on a task leads */
  constructor(addressOf) {
    this.#addressOf = addressOf;
    this.#sizes.observe(this.element);
  }

  /**
   * @param {Api.DagTask[]} graph
   * @param {Api.TaskInstance[]} instances
   */
  show(graph, instances) {
    this.#graph = graph;
    this.#instances = instances;
    this.#draw();
  }

  /**
   * Mark the task whose log is shown.
   * @param {string | undefined} task
   */
  choose(task) {
    this.#chosen = task;
    this.#draw();
  }

  /** @param {string} task */
  focus(task) {
    focusKey(`task ${task}`, this.element);
  }

  leave() {
    this.#sizes.disconnect();
  }

  #draw() {
    if (!this.element.isConnected) return;
    const width = this.element.clientWidth;
    const states = this.#instances.map((one) => [one.task_id, one.map_index, one.state]);
    const now = JSON.stringify([width, this.#graph, this.#chosen, states]);
    if (now === this.#drawn) return;
    this.#drawn = now;
    keepFocus(this.element, () => fill(this.element, this.#content(width)));
  }

  /** @param {number} width */
  #content(width) {
    if (!this.#graph.length) return el("p", { class: "quiet" }, "SVOps knows no tasks of this DAG.");
    return drawGraph(this.#graph, this.#instances, { width, addressOf: this.#addressOf, chosen: this.#chosen });
  }
}
