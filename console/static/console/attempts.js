// Draws the earlier attempts of a run, newest first.

import { badge } from "./badges.js";
import { elapsed } from "./clock.js";
import { el } from "./dom.js";
import { full, when } from "./times.js";

/** @param {Api.Attempt[]} attempts */
export function drawAttempts(attempts) {
  const newestFirst = [...attempts].sort((one, other) => other.number - one.number);
  return el("ol", { class: "attempts" }, newestFirst.map(line));
}

/** @param {Api.Attempt} attempt */
function line({ number, state, state_reason: reason, failed_tasks: failed, started_at: started, ended_at: ended }) {
  const times = started
    ? [el("span", { title: full(started) }, when(started)), " · took ", elapsed(started, ended ?? started)]
    : "not started";
  const tasks = failed.flatMap((task, at) => [at > 0 && ", ", el("code", {}, task)]);
  const title = el("strong", {}, `Attempt ${number}`);
  return el(
    "li",
    { data: { attempt: number } },
    el("div", { class: "attempt-head" }, title, badge(state), el("span", { class: "quiet small" }, times)),
    reason && el("p", { class: "small" }, reason),
    failed.length > 0 && el("p", { class: "small" }, "Failed: ", tasks),
  );
}
