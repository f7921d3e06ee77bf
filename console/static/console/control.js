// The dialog that stops a run, and what all dialogs of a run share.

import { post, runPath } from "./api.js";
import { openDialog } from "./dialog.js";
import { el } from "./dom.js";
import { noteField } from "./note-field.js";

/** @typedef {(run: Api.Run) => unknown} Changed receives the run as it is after the action */

/**
 * Send an action of a run.
 * @param {Api.Run} run
 * @param {Record<string, unknown>} action
 */
export const control = (run, action) => post(`${runPath(run.workflow_id, run.id)}/control`, action);

/** @param {Api.Run} run */
export const subtitleOf = (run) => `${run.workflow_name} · ${run.id.slice(0, 8)}`;

/**
 * @param {Api.Run} run
 * @param {Changed} changed
 */
export function openStop(run, changed) {
  const note = noteField("Why? It is shown with the event.");
  openDialog({
    title: "Stop this run?",
    subtitle: subtitleOf(run),
    body: [el("p", {}, "Airflow ends its tasks. It does not undo what they have done so far."), note.element],
    action: "Stop run",
    tone: "danger",
    submit: async () => changed(await control(run, { action: "stop", note: note.read() })),
  });
}
