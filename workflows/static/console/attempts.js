// What became of a run before it was retried, newest first.

import { elapsed, full, when } from "./clock.js";
import { el } from "./dom.js";
import { badge } from "./states.js";

export const drawAttempts = (attempts) => el("ol", { class: "attempts" }, [...attempts].sort((one, other) => other.number - one.number).map(line));

function line({ number, state, state_reason: reason, failed_tasks: failed, started_at: started, ended_at: ended }) {
  const times = started ? [el("span", { title: full(started) }, when(started)), " · took ", elapsed(started, ended ?? started)] : "not started";
  return el(
    "li",
    { data: { attempt: number } },
    el("div", { class: "attempt-head" }, el("strong", {}, `Attempt ${number}`), badge(state), el("span", { class: "quiet small" }, times)),
    reason && el("p", { class: "small" }, reason),
    failed.length > 0 && el("p", { class: "small" }, "Failed: ", failed.flatMap((task, at) => [at > 0 && ", ", el("code", {}, task)])),
  );
}
