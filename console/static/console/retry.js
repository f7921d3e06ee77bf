// The dialog that retries a run. It shows what would run first.

import { namesInOrder } from "./actions.js";
import { ApiError, orError } from "./api.js";
import { control, subtitleOf } from "./control.js";
import { openDialog } from "./dialog.js";
import { el, fill } from "./dom.js";
import { noteField } from "./note-field.js";
import { label } from "./states.js";

const MODES = [
  ["failed", "Failed tasks", "and the tasks that wait for them"],
  ["all", "All tasks", "from the first one on"],
  ["from_task", "From one task on", "and all tasks after it"],
];
const REFUSED = [400, 409];

/**
 * What a retry can begin at.
 * @typedef {object} Begin
 * @property {string[]} taskIds the tasks of the run, in the order in which they run
 * @property {Api.TaskInstance[]} tasks
 */

/**
 * @param {Api.Run} run
 * @param {Begin} begin
 * @param {import("./control.js").Changed} changed
 */
export function openRetry(run, begin, changed) {
  const { taskIds } = begin;
  const note = noteField("Shown with the event.");
  const preview = el("div", { class: "preview", "aria-live": "polite" });
  const choice = new ModeChoice(run, begin, () => showPreview());
  const retry = (/** @type {object} */ more) => control(run, { action: "retry", ...choice.read(), ...more });
  const { confirm } = openDialog({
    title: "Retry this run?",
    subtitle: `${subtitleOf(run)} · attempt ${run.attempt + 1}`,
    body: [choice.element, preview, note.element],
    action: "Retry run",
    submit: async () => changed(await retry({ note: note.read() })),
  });
  let asked = 0;

  async function showPreview() {
    asked += 1;
    const mine = asked;
    confirm.disabled = true;
    fill(preview, el("p", { class: "quiet" }, "Asking Airflow what would run…"));
    const found = await orError(retry({ dry_run: true }));
    // The user has chosen something else meanwhile.
    if (mine !== asked) return;
    if (found instanceof ApiError) {
      // Without Airflow there is no preview, but SVOps accepts the retry and dispatches it later.
      confirm.disabled = REFUSED.includes(found.status);
      fill(preview, el("p", { class: "problem" }, found.message));
    } else {
      confirm.disabled = !found.would_run.length;
      fill(preview, listOf(namesInOrder(found.would_run, taskIds)));
    }
  }

  showPreview();
}

/** @param {string[]} names */
function listOf(names) {
  if (!names.length) return el("p", { class: "quiet" }, "Nothing would run.");
  const title = `Would run ${names.length === 1 ? "1 task" : `${names.length} tasks`}:`;
  const items = names.map((name) => el("li", {}, el("code", {}, name)));
  return [el("p", { class: "small" }, title), el("ul", { class: "names" }, items)];
}

/** The choice of what runs again. */
class ModeChoice {
  /** @type {HTMLInputElement[]} */
  #radios;
  #task;
  #instance;
  #tasks;
  element;

  /**
   * @param {Api.Run} run
   * @param {Begin} begin
   * @param {() => void} changed
   */
  constructor(run, { taskIds, tasks }, changed) {
    this.#tasks = tasks;
    const first = run.state === "success" ? "all" : "failed";
    /** @type {Record<string, boolean>} */
    const isOut = { failed: run.state === "success", from_task: !taskIds.length };
    this.#radios = MODES.map(([value]) => {
      const disabled = isOut[value];
      return el("input", { type: "radio", name: "mode", value, checked: value === first, disabled, change: changed });
    });
    const choose = () => this.#choose("from_task", changed);
    const chooseTask = () => {
      this.#offerInstances();
      choose();
    };
    const options = taskIds.map((id) => el("option", {}, id));
    this.#task = el("select", { "aria-label": "First task", change: chooseTask }, options);
    this.#instance = el("select", { "aria-label": "Instance", change: choose });
    this.#offerInstances();
    const legend = el("legend", { class: "unseen" }, "Which tasks run again");
    const lines = MODES.map((mode, at) => this.#line(mode, this.#radios[at]));
    this.element = el("fieldset", { class: "choices" }, legend, lines);
  }

  read() {
    const mode = this.#radios.find((radio) => radio.checked)?.value;
    if (mode !== "from_task") return { mode };
    const index = this.#instance.value;
    return { mode, from_task: this.#task.value, ...(index && { map_index: Number(index) }) };
  }

  /** Only a mapped task has several instances. */
  #offerInstances() {
    const instances = this.#tasks.filter((task) => task.task_id === this.#task.value && task.map_index >= 0);
    instances.sort((one, other) => one.map_index - other.map_index);
    const options = instances.map(({ map_index: index, state }) =>
      el("option", { value: index }, `[${index}] ${label(state).toLowerCase()}`),
    );
    fill(this.#instance, el("option", { value: "" }, "all instances"), options);
    this.#instance.hidden = !instances.length;
  }

  /**
   * @param {string[]} mode
   * @param {HTMLInputElement} radio
   */
  #line([value, title, more], radio) {
    const words = el("span", {}, title, el("span", { class: "quiet small" }, ` ${more}`));
    return el("label", { class: "choice" }, radio, words, value === "from_task" && [this.#task, this.#instance]);
  }

  /**
   * @param {string} value
   * @param {() => void} changed
   */
  #choose(value, changed) {
    for (const radio of this.#radios) radio.checked = radio.value === value;
    changed();
  }
}
