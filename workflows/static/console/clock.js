// Times that stay true while they are looked at.

import { el } from "./dom.js";

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
];

/** "12 min ago", with the full time as its title. */
export function ago(iso) {
  if (!iso) return el("span", { class: "quiet" }, "–");
  const time = el("time", { datetime: iso, title: full(iso) });
  tickOne(time);
  return time;
}

/** How long it has taken, or takes so far when `to` is null. */
export function elapsed(from, to) {
  const span = el("span", { class: "elapsed", data: { from: from || "", to: to || "" } });
  tickOne(span);
  return span;
}

export const full = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });

export const ofDay = (iso) => new Date(iso).toLocaleTimeString(undefined, { hour12: false });

/** "14:05", with its day where that is not today. */
export function when(iso) {
  const isToday = new Date(iso).toDateString() === new Date().toDateString();
  return new Date(iso).toLocaleString(undefined, { dateStyle: isToday ? undefined : "medium", timeStyle: "short", hourCycle: "h23" });
}

/** "4.2 s", "1 min 05 s", "2 h 10 min". */
export function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

export const secondsBetween = (from, to) => ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;

function relative(seconds) {
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  const [size, name] = UNITS.find(([unit]) => seconds >= unit);
  return `${Math.floor(seconds / size)} ${name} ago`;
}

function tickOne(node) {
  let text = "–";
  if (node.dateTime) text = relative(secondsBetween(node.dateTime));
  else if (node.dataset.from) text = duration(secondsBetween(node.dataset.from, node.dataset.to));
  if (node.textContent !== text) node.textContent = text;
}

/** Keep every time on the page going. */
export function startClock() {
  setInterval(() => document.querySelectorAll("time[datetime], .elapsed[data-to='']").forEach(tickOne), 1000);
}
