// The head of the page of a run: its name, its state and its buttons.

import { whyNotPause, whyNotRetry, whyNotStop } from "./actions.js";
import { badge, pauseBadge, unusableNote } from "./badges.js";
import { ago, elapsed } from "./clock.js";
import { openStop } from "./control.js";
import { el } from "./dom.js";
import { openWhy } from "./explain.js";
import { openPause, openResume } from "./pause.js";
import { openRetry } from "./retry.js";
import { ACTIVE, startsLater } from "./states.js";
import { when } from "./times.js";

const DELETED = "The workflow was deleted. Its runs are read-only.";

/**
 * What the buttons need.
 * @typedef {object} Controls
 * @property {boolean} canControl whether the user is allowed to control runs
 * @property {boolean} isDeleted whether the workflow was deleted
 * @property {string} whyUnusable why SVOps cannot use the DAG; "" if it can
 * @property {(workflowId: number) => string} nameOf
 * @property {() => string[]} taskIds the tasks of the run, in the order in which they run
 * @property {() => Api.TaskInstance[]} tasks
 * @property {import("./control.js").Changed} changed
 */

/**
 * @param {Api.Run} run
 * @param {Controls} controls
 */
export function headOf(run, controls) {
  const attempt = run.attempt > 1 && el("span", { class: "mark" }, `attempt ${run.attempt}`);
  const title = [el("h1", {}, run.workflow_name), badge(run.state), pauseBadge(run), attempt];
  return [
    el("a", { class: "back", href: "#/runs", data: { key: "back" } }, "← Runs"),
    el("div", { class: "run-title" }, title),
    el("p", { class: "run-sub quiet" }, originOf(run), timesOf(run)),
    run.state_reason && el("p", { class: "reason", data: { tone: run.state } }, run.state_reason),
    controls.isDeleted && el("p", { class: "notice" }, DELETED),
    unusableNote(controls.whyUnusable),
    el(
      "div",
      { class: "actions" },
      whyButton(run),
      controls.canControl && !controls.isDeleted && buttons(run, controls),
    ),
  ];
}

/** @param {Api.Run} run */
const originOf = (run) => [
  el("code", {}, run.id.slice(0, 8)),
  " · by ",
  run.username ?? "Airflow",
  " · ",
  ago(run.created_at),
];

/** @param {Api.Run} run */
function timesOf(run) {
  const { run_at: runAt, started_at: started, ended_at: ended } = run;
  return [
    runAt && startsLater(run) && ` · starts at ${when(runAt)}`,
    started && [ended ? " · took " : " · running for ", elapsed(started, ended)],
  ];
}

/** @param {Api.Run} run */
const whyButton = (run) => ACTIVE.includes(run.state) && button("Why is it waiting?", "why", "", () => openWhy(run));

/**
 * @param {Api.Run} run
 * @param {Controls} controls
 */
function buttons(run, { changed, nameOf, taskIds, tasks }) {
  return [
    run.paused || run.pausing
      ? button("Resume", "pause", "", () => openResume(run, changed))
      : button("Pause", "pause", whyNotPause(run), () => openPause(run, nameOf, changed)),
    button("Stop", "stop", whyNotStop(run), () => openStop(run, changed)),
    button("Retry", "retry", whyNotRetry(run), () => openRetry(run, { taskIds: taskIds(), tasks: tasks() }, changed)),
  ];
}

/**
 * @param {string} text
 * @param {string} key
 * @param {string} reason why it is disabled; "" when it is not
 * @param {() => void} click
 */
function button(text, key, reason, click) {
  const look = `button ${key === "stop" ? "danger-quiet" : ""}`;
  const state = { disabled: Boolean(reason), title: reason };
  return el("button", { class: look, type: "button", ...state, data: { key }, click }, text);
}
