// Stopping and retrying, each after a word of confirmation.

import { post, runPath } from "./api.js";
import { openDialog } from "./dialog.js";
import { el, fill } from "./dom.js";
import { TERMINAL } from "./states.js";

const MODES = [
  ["failed", "What failed", "and the tasks that wait for it"],
  ["all", "Everything", "from the first task on"],
  ["from_task", "From one task on", "and all that follow it"],
];

/** Why the run can not be stopped now; "" when it can. */
export function whyNotStop(run) {
  if (run.state === "stopping") return "The run is stopping already.";
  return TERMINAL.includes(run.state) ? "The run has ended." : "";
}

export function whyNotRetry(run) {
  if (!TERMINAL.includes(run.state)) return "The run has not ended.";
  return run.queued_at ? "" : "Airflow never had this run: trigger a new one.";
}

export function openStop(run, changed) {
  const note = noteField("Why? It is told with the event.");
  openDialog({
    title: "Stop this run?",
    subtitle: `${run.workflow_name} · ${run.id.slice(0, 8)}`,
    body: [el("p", {}, "Airflow is told to end its tasks. What they have already done is not undone."), note.element],
    action: "Stop run",
    tone: "danger",
    submit: async () => changed(await post(`${runPath(run.workflow_id, run.id)}/control`, { action: "stop", note: note.read() })),
  });
}

/** `taskIds` are those that the run has, in the order in which they run. */
export function openRetry(run, taskIds, changed) {
  const note = noteField("Told with the event.");
  const preview = el("div", { class: "preview", "aria-live": "polite" });
  const choice = new ModeChoice(run, taskIds, () => showPreview());
  const path = `${runPath(run.workflow_id, run.id)}/control`;
  const { confirm } = openDialog({
    title: "Retry this run?",
    subtitle: `${run.workflow_name} · ${run.id.slice(0, 8)} · attempt ${run.attempt + 1}`,
    body: [choice.element, preview, note.element],
    action: "Retry run",
    submit: async () => changed(await post(path, { action: "retry", note: note.read(), ...choice.read() })),
  });
  let asked = 0;

  async function showPreview() {
    const mine = (asked += 1);
    confirm.disabled = true;
    fill(preview, el("p", { class: "quiet" }, "Asking Airflow what would run…"));
    const found = await post(path, { action: "retry", dry_run: true, ...choice.read() }).catch((error) => error);
    if (mine !== asked) return;
    // Airflow not answering takes the preview away, not the retry: that is owed to it and carried out later.
    confirm.disabled = found.would_run ? !found.would_run.length : found.status === 409 || found.status === 400;
    fill(preview, found.would_run ? listed(found.would_run, taskIds) : el("p", { class: "problem" }, found.message));
  }

  showPreview();
}

function listed(refs, taskIds) {
  if (!refs.length) return el("p", { class: "quiet" }, "Nothing would run.");
  const inOrder = [...refs].sort((one, other) => taskIds.indexOf(one.task_id) - taskIds.indexOf(other.task_id));
  const names = inOrder.map((ref) => (ref.map_index < 0 ? ref.task_id : `${ref.task_id} [${ref.map_index}]`));
  return [
    el("p", { class: "small" }, `Would run ${refs.length === 1 ? "1 task" : `${refs.length} tasks`}:`),
    el("ul", { class: "names" }, names.map((name) => el("li", {}, el("code", {}, name)))),
  ];
}

class ModeChoice {
  constructor(run, taskIds, changed) {
    const first = run.state === "success" ? "all" : "failed";
    this.radios = MODES.map(([value]) =>
      el("input", { type: "radio", name: "mode", value, checked: value === first, disabled: this.#isOut(value, run, taskIds), change: changed }),
    );
    this.task = el("select", { "aria-label": "Task to begin at", change: () => this.#choose("from_task", changed) }, taskIds.map((id) => el("option", {}, id)));
    const lines = MODES.map(([value, title, more], at) =>
      el("label", { class: "choice" }, this.radios[at], el("span", {}, title, el("span", { class: "quiet small" }, ` ${more}`)), value === "from_task" && this.task),
    );
    this.element = el("fieldset", { class: "choices" }, el("legend", { class: "unseen" }, "What to run again"), lines);
  }

  read() {
    const mode = this.radios.find((radio) => radio.checked).value;
    return mode === "from_task" ? { mode, from_task: this.task.value } : { mode };
  }

  #choose(value, changed) {
    this.radios.find((radio) => radio.value === value).checked = true;
    changed();
  }

  #isOut = (value, run, taskIds) => (value === "failed" && run.state === "success") || (value === "from_task" && !taskIds.length);
}

export function noteField(hint) {
  const input = el("input", { type: "text", maxlength: 1000, autocomplete: "off" });
  const element = el("label", { class: "field" }, el("span", { class: "caption" }, "Note"), input, el("span", { class: "hint" }, hint));
  return { element, read: () => input.value };
}
