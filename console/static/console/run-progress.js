// The bar that shows how many tasks of a run have ended.

import { el } from "./dom.js";
import { isTaskDone } from "./states.js";

export class RunProgress {
  #bar = el("progress", { max: 1, value: 0, "aria-label": "Tasks ended" });
  #text = el("span", { class: "quiet small" });
  element = el("div", { class: "progress" }, this.#bar, this.#text);

  /**
   * @param {Api.Run} run
   * @param {Api.TaskInstance[]} instances
   * @param {number} known the number of tasks in the DAG
   */
  show(run, instances, known) {
    const done = instances.filter((one) => isTaskDone(one.state)).length;
    const total = Math.max(instances.length, known);
    this.#bar.value = total ? done / total : 0;
    this.#bar.dataset.state = run.state;
    this.#text.textContent = `${done} of ${total} tasks ended`;
  }
}
