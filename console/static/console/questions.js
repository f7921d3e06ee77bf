// Shows what tasks ask a person. The answer is given in Airflow.

import { el, fill } from "./dom.js";
import { nameOf } from "./task-name.js";

export class Questions {
  element = el("section", { class: "panel questions", hidden: true });

  /** @param {Api.TaskInstance[]} instances */
  show(instances) {
    const waiting = instances.filter(isAsked);
    this.element.hidden = !waiting.length;
    fill(this.element, el("h2", {}, "Waiting for a person"), waiting.map(questionOf));
  }
}

/**
 * Whether a person has to answer before the task goes on. Before Airflow 3.3, such a task is deferred.
 * @param {Pick<Api.TaskInstance, "state" | "question">} instance
 */
export const isAsked = ({ state, question }) =>
  state === "awaiting_input" || (state === "deferred" && question !== null && !question.answer);

/** @param {Api.TaskInstance} instance */
function questionOf(instance) {
  const { question } = instance;
  return el(
    "article",
    { data: { task: nameOf(instance) } },
    el("p", { class: "because" }, el("code", {}, nameOf(instance)), " ", question?.subject),
    question?.body && el("p", { class: "small body" }, question.body),
    el("p", { class: "small" }, adviceOf(question)),
  );
}

/**
 * The options, and who may answer.
 * @param {Api.Question | null} question
 */
export function adviceOf(question) {
  if (!question) return "Answer it in Airflow, which does not say here what it asks.";
  const { options, respondents } = question;
  const who = respondents.length ? ` Only these accounts may: ${respondents.join(", ")}.` : "";
  return `Options: ${options.join(", ")}. Answer it in Airflow.${who}`;
}
