// The details of a run: where it comes from, its references and its parameters.

import { ago } from "./clock.js";
import { el } from "./dom.js";
import { full } from "./times.js";

/** @typedef {[name: Dom.Child, value: Dom.Child]} Fact */

/**
 * @param {Api.Run} run
 * @param {string} airflow the name of its Airflow, if it is to be shown
 */
export function factsOf(run, airflow) {
  const parameters = Object.entries(run.parameters).map(
    ([name, value]) => /** @type {Fact} */ ([code(name), code(JSON.stringify(value))]),
  );
  const values = parameters.length ? pairs(parameters) : el("p", { class: "quiet" }, "None.");
  return [pairs(detailsOf(run, airflow)), el("h3", {}, "Parameters"), values];
}

/**
 * @param {Api.Run} run
 * @param {string} airflow
 * @returns {Fact[]}
 */
function detailsOf(run, airflow) {
  /** @type {Fact[]} */
  const facts = [
    ["Workflow", el("a", { href: `#/runs?workflow=${run.workflow_id}` }, run.workflow_name)],
    ["DAG", code(run.dag_id)],
    ["Run in Airflow", code(run.dag_run_id)],
    ["Triggered by", `${run.username ?? "Airflow"} (${run.trigger_type})`],
  ];
  if (airflow) facts.splice(1, 0, ["Airflow", airflow]);
  if (run.run_at) facts.push(["Start time", full(run.run_at)]);
  if (run.logical_date) facts.push(["Logical date", full(run.logical_date)]);
  if (run.note) facts.push(["Note", run.note]);
  if (run.task_id !== null) facts.push(["Your task", code(String(run.task_id))]);
  if (run.dataset_id !== null) facts.push(["Your dataset", code(String(run.dataset_id))]);
  return [...facts, ["Last checked", ago(run.observed_at)]];
}

/** @param {string} text */
const code = (text) => el("code", {}, text);

/** @param {Fact[]} facts */
const pairs = (facts) =>
  el(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
