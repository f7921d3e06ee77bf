// Shows why a run makes no progress.

import { get, orError, runPath } from "./api.js";
import { subtitleOf } from "./control.js";
import { openDialog, STAY_OPEN } from "./dialog.js";
import { el, fill } from "./dom.js";

/** @type {Record<string, string>} */
const WHO = {
  you: "You can act",
  operator: "For an operator",
  author: "For the author of the DAG",
  nobody: "Nothing to do",
  respondent: "For someone who may answer",
};

/**
 * Ask at once, and again whenever the user wants.
 * @param {Api.Run} run
 */
export function openWhy(run) {
  const answer = el("div", { class: "reasons", "aria-live": "polite" });
  const ask = async () => {
    fill(answer, el("p", { class: "quiet" }, "Asking Airflow…"));
    const found = await orError(get(`${runPath(run.workflow_id, run.id)}/explain`));
    fill(answer, found instanceof Error ? el("p", { class: "problem" }, found.message) : listOf(found.reasons));
    return STAY_OPEN;
  };
  openDialog({
    title: "Why is it waiting?",
    subtitle: subtitleOf(run),
    body: [answer],
    action: "Ask again",
    leave: "Close",
    submit: ask,
  });
  ask();
}

/** @param {Api.Reason[]} reasons */
const listOf = (reasons) => el("ol", {}, reasons.map(line));

/** @param {Api.Reason} reason */
function line({ code, reason, who, action }) {
  const advice = el("p", { class: "small" }, el("strong", {}, WHO[who] ?? who), ": ", action);
  return el("li", { data: { code, who } }, el("p", { class: "because" }, reason), advice);
}
