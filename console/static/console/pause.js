// The dialogs that pause and resume. Airflow can only pause a whole DAG. SVOps can hold a single run only while it is
// pending, before Airflow has it.

import { ApiError, post } from "./api.js";
import { badge } from "./badges.js";
import { control, subtitleOf } from "./control.js";
import { openDialog } from "./dialog.js";
import { el, fill } from "./dom.js";
import { noteField } from "./note-field.js";
import { toast } from "./toasts.js";

const HELD = "SVOps holds this run until somebody resumes it. Other runs are not affected.";
const RELEASED = "SVOps sends it to Airflow at once, or at its start time.";
const FROZEN =
  "Airflow can only pause the whole DAG. Running tasks finish, and no other task starts until somebody resumes it.";

/** @typedef {(workflowId: number) => string} NameOf returns the name of a workflow */

/**
 * Other runs that would freeze too are listed before anything is paused.
 * @param {Api.Run} run
 * @param {NameOf} nameOf
 * @param {import("./control.js").Changed} changed
 */
export function openPause(run, nameOf, changed) {
  const note = noteField("Shown with the event.");
  const frozen = el("div", { class: "preview", tabindex: -1, hidden: true });
  let scope = "run";
  const { confirm } = openDialog({
    title: "Pause this run?",
    subtitle: subtitleOf(run),
    body: [el("p", {}, run.state === "pending" ? HELD : FROZEN), frozen, note.element],
    action: "Pause run",
    submit: async () => changed(await control(run, { action: "pause", note: note.read(), scope })),
    explain: (error) => {
      if (!(error instanceof ApiError) || error.code !== "would_freeze_others") return false;
      scope = "workflow";
      confirm.textContent = "Pause the whole DAG";
      fill(frozen, ...others(/** @type {any} */ (error.body), run.dag_id, nameOf));
      frozen.hidden = false;
      // Takes the focus off the button: a second Enter must not confirm what the user has not read.
      frozen.focus();
      return true;
    },
  });
}

/**
 * @param {Api.Run} run
 * @param {import("./control.js").Changed} changed
 */
export function openResume(run, changed) {
  const note = noteField("Shown with the event.");
  const text = run.state === "pending" ? RELEASED : `The DAG ${run.dag_id} continues, with all its frozen runs.`;
  openDialog({
    title: "Resume this run?",
    subtitle: subtitleOf(run),
    body: [el("p", {}, text), note.element],
    action: "Resume run",
    submit: async () => changed(await control(run, { action: "resume", note: note.read() })),
  });
}

/**
 * @param {Api.Workflow} workflow
 * @param {() => unknown} changed
 */
export const openDagPause = (workflow, changed) =>
  openSwitch(workflow, changed, {
    path: "pause",
    title: "Pause the whole DAG?",
    text:
      "Running tasks finish, and no other task starts. All runs of the DAG freeze, also those of other workflows. " +
      "New runs wait.",
    action: "Pause DAG",
    done: `${workflow.dag_id} is paused.`,
  });

/**
 * @param {Api.Workflow} workflow
 * @param {() => unknown} changed
 */
export const openDagResume = (workflow, changed) =>
  openSwitch(workflow, changed, {
    path: "resume",
    title: "Resume the DAG?",
    text: "Its frozen runs continue, and its waiting runs start.",
    action: "Resume DAG",
    done: `${workflow.dag_id} is resumed.`,
  });

/**
 * @param {Api.Workflow} workflow
 * @param {() => unknown} changed
 * @param {{ path: string, title: string, text: string, action: string, done: string }} words
 */
function openSwitch(workflow, changed, { path, title, text, action, done }) {
  const note = noteField("Shown with the events.");
  openDialog({
    title,
    subtitle: `${workflow.name} · ${workflow.dag_id}`,
    body: [el("p", {}, text), note.element],
    action,
    submit: async () => {
      await post(`/workflows/${workflow.id}/${path}`, { note: note.read() });
      toast(done);
      await changed();
    },
  });
}

/**
 * The other runs that would freeze: those that the user can see, and how many more there are.
 * @param {Api.WouldFreeze} refusal
 * @param {string} dagId
 * @param {NameOf} nameOf
 * @returns {Dom.Child[]}
 */
function others({ other_runs: count, runs }, dagId, nameOf) {
  const more = count - runs.length;
  const what = count === 1 ? "1 other active run, which" : `${count} other active runs, which`;
  const items = runs.map((one) => el("li", {}, badge(one.state), link(one, nameOf)));
  return [
    el("p", {}, "Nothing is paused yet. The DAG ", el("code", {}, dagId), ` has ${what} would freeze too.`),
    el("ul", { class: "frozen" }, items),
    more > 0 && el("p", { class: "quiet small" }, runs.length ? `And ${more} more.` : "You cannot see them."),
  ];
}

/**
 * @param {Api.WouldFreeze["runs"][number]} one
 * @param {NameOf} nameOf
 */
function link({ workflow_id: workflowId, run_id: runId }, nameOf) {
  const name = el("span", {}, nameOf(workflowId));
  return el("a", { href: `#/runs/${workflowId}/${runId}` }, name, el("code", {}, runId.slice(0, 8)));
}
