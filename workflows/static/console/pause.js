// Pausing and resuming. Airflow pauses a whole DAG or nothing: only what it does not have yet can be held alone.

import { post, runPath } from "./api.js";
import { noteField } from "./control.js";
import { openDialog } from "./dialog.js";
import { el, fill } from "./dom.js";
import { badge, TERMINAL } from "./states.js";
import { toast } from "./toasts.js";

/** Why the run can not be paused now; "" when it can. */
export function whyNotPause(run) {
  if (run.state === "stopping") return "The run is stopping.";
  return TERMINAL.includes(run.state) ? "The run has ended." : "";
}

/** `nameOf` gives the name of a workflow by its id. What else would freeze is shown before it does. */
export function openPause(run, nameOf, changed) {
  const note = noteField("Told with the event.");
  const frozen = el("div", { class: "preview", tabindex: -1, hidden: true });
  let scope = "run";
  const { confirm } = openDialog({
    title: "Pause this run?",
    subtitle: subtitle(run),
    body: [el("p", {}, run.state === "pending" ? HELD : FROZEN), frozen, note.element],
    action: "Pause run",
    submit: async () => changed(await control(run, { action: "pause", note: note.read(), scope })),
    explain: (error) => {
      if (error.code !== "would_freeze_others") return false;
      scope = "workflow";
      confirm.textContent = "Pause the whole DAG";
      fill(frozen, others(error.body, run.dag_id, nameOf));
      frozen.hidden = false;
      // A second Enter must not confirm what nobody has read.
      frozen.focus();
      return true;
    },
  });
}

export function openResume(run, changed) {
  const note = noteField("Told with the event.");
  openDialog({
    title: "Resume this run?",
    subtitle: subtitle(run),
    body: [el("p", {}, run.state === "pending" ? LET_GO : `The DAG ${run.dag_id} goes on, with every run of it that was frozen.`), note.element],
    action: "Resume run",
    submit: async () => changed(await control(run, { action: "resume", note: note.read() })),
  });
}

export const openDagPause = (workflow, changed) =>
  openSwitch(workflow, changed, {
    path: "pause",
    title: "Pause the whole DAG?",
    text: "Tasks at work go on to their end, and nothing further starts. Every run of the DAG freezes, whatever workflow it is of, and new ones wait.",
    action: "Pause DAG",
    done: `${workflow.dag_id} is paused.`,
  });

export const openDagResume = (workflow, changed) =>
  openSwitch(workflow, changed, {
    path: "resume",
    title: "Resume the DAG?",
    text: "Every run of it that was frozen goes on, and those that wait start.",
    action: "Resume DAG",
    done: `${workflow.dag_id} goes on.`,
  });

const HELD = "It is held here, before its start, until it is resumed. No other run is touched.";
const LET_GO = "It is handed over to Airflow at once, or at the time that it was to start at.";
const FROZEN = "Airflow can only pause the whole DAG: tasks at work go on to their end, and nothing further starts until it is resumed.";

const subtitle = (run) => `${run.workflow_name} · ${run.id.slice(0, 8)}`;
const control = (run, wanted) => post(`${runPath(run.workflow_id, run.id)}/control`, wanted);

function openSwitch(workflow, changed, { path, title, text, action, done }) {
  const note = noteField("Told with the events.");
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

/** The other runs that would freeze: those that may be seen, and how many more there are. */
function others({ other_runs: count, runs }, dagId, nameOf) {
  const more = count - runs.length;
  return [
    el("p", {}, "Nothing was paused: the DAG ", el("code", {}, dagId), ` has ${count === 1 ? "1 other run that" : `${count} other runs that`} would freeze too.`),
    el("ul", { class: "frozen" }, runs.map((one) => el("li", {}, badge(one.state), link(one, nameOf)))),
    more > 0 && el("p", { class: "quiet small" }, runs.length ? `And ${more} more.` : "You may not see them."),
  ];
}

const link = (one, nameOf) => el("a", { href: `#/runs/${one.workflow_id}/${one.run_id}` }, el("span", {}, nameOf(one.workflow_id)), el("code", {}, one.run_id.slice(0, 8)));
