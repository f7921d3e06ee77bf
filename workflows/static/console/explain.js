// Why a run makes no progress, as Airflow and SVOps see it now.

import { get, runPath } from "./api.js";
import { openDialog, STAY_OPEN } from "./dialog.js";
import { el, fill } from "./dom.js";

const WHO = { you: "You can act", operator: "For an operator", author: "For the author of the DAG", nobody: "Nothing to do" };

/** Ask at once, and again as often as somebody wants to know. */
export function openWhy(run) {
  const answer = el("div", { class: "reasons", "aria-live": "polite" });
  const ask = async () => {
    fill(answer, el("p", { class: "quiet" }, "Asking Airflow…"));
    const found = await get(`${runPath(run.workflow_id, run.id)}/explain`).catch((error) => error);
    fill(answer, found.reasons ? listed(found.reasons) : el("p", { class: "problem" }, found.message));
    return STAY_OPEN;
  };
  openDialog({
    title: "Why is it waiting?",
    subtitle: `${run.workflow_name} · ${run.id.slice(0, 8)}`,
    body: [answer],
    action: "Ask again",
    leave: "Close",
    submit: ask,
  });
  ask();
}

const listed = (reasons) => el("ol", {}, reasons.map(({ code, reason, who, action }) => line(code, reason, who, action)));

const line = (code, reason, who, action) =>
  el("li", { data: { code, who } }, el("p", { class: "because" }, reason), el("p", { class: "small" }, el("strong", {}, WHO[who] ?? who), ": ", action));
