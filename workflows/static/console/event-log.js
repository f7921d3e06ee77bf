// What happened to a run, newest first.

import { full, ofDay, duration } from "./clock.js";
import { el } from "./dom.js";
import { tone } from "./states.js";

const TONES = { "workflow.triggered": "queued", "workflow.retried": "queued", "workflow.paused": "warning", "workflow.stop_incomplete": "warning", "workflow.external_change": "warning" };

/** Events by `seq`, each once, in whatever order they come. */
export class EventLog {
  constructor() {
    this.events = new Map();
    this.element = el("ol", { class: "event-log" });
  }

  add(events) {
    const fresh = events.filter((event) => !this.events.has(event.seq));
    fresh.forEach((event) => this.events.set(event.seq, line(event)));
    if (!fresh.length) return;
    const ordered = [...this.events.entries()].sort(([one], [other]) => other - one);
    this.element.replaceChildren(...ordered.map(([, element]) => element));
  }
}

function line(event) {
  return el(
    "li",
    { data: { tone: TONES[event.type] ?? tone(event.data.state), seq: event.seq } },
    el("time", { class: "log-time", title: full(event.timestamp) }, ofDay(event.timestamp)),
    el("code", { class: "log-type" }, event.type),
    el("span", { class: "log-words" }, details(event).join(" · ")),
  );
}

function details({ type, task_id, data }) {
  return [
    task_id && (data.map_index >= 0 ? `${task_id} [${data.map_index}]` : task_id),
    task_id && data.try_number > 1 && `try ${data.try_number}`,
    data.attempt > 1 && `attempt ${data.attempt}`,
    data.mode && `mode ${data.mode}`,
    data.scope === "workflow" && "the whole DAG",
    data.by && `by ${data.by}`,
    data.reason,
    data.note,
    data.change && `${data.change} in Airflow`,
    data.still_running?.length > 0 && `still running: ${data.still_running.join(", ")}`,
    type !== "task.skipped" && data.duration_s != null && duration(data.duration_s),
  ].filter(Boolean);
}
