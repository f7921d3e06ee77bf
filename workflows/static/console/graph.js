// The task graph: layers from left to right, or from the top down where the page is narrow.

import { svg } from "./dom.js";
import { icon, label, tone, together } from "./states.js";

const NARROW = 560;
const HEIGHT = 46;
const WIDEST = 184;
const NARROWEST = 132;
const LONGEST_EDGE = 44;
const SHORTEST_EDGE = 22;
const LETTER = 7;

/** Draw `tasks` of the DAG with the states of `instances`, for a place that is `width` wide; each leads to `addressOf` it. */
export function drawGraph(tasks, instances, width, addressOf, chosen) {
  const layers = layersOf(tasks);
  const shape = shapeFor(layers, width);
  const places = placed(layers, shape);
  const size = extent(places, shape);
  const states = statesOf(instances);
  return svg(
    "svg",
    { class: "graph", viewBox: `0 0 ${size.width} ${size.height}`, width: size.width, height: size.height, role: "list", "aria-label": "Tasks" },
    tasks.flatMap((task) => task.downstream_task_ids.map((to) => edge(places.get(task.task_id), places.get(to), shape))),
    tasks.map((task) => node(task, places.get(task.task_id), states.get(task.task_id) ?? [], shape, { href: addressOf(task.task_id), isChosen: task.task_id === chosen })),
  );
}

/** Boxes and edges as large as the place allows; what is larger still can be scrolled. */
function shapeFor(layers, width) {
  const isTall = width < NARROW;
  const inARow = isTall ? Math.max(...layers.map((layer) => layer.length)) : layers.length;
  const share = (width - 2) / inARow;
  const edge = isTall ? 16 : clamp(share * 0.2, SHORTEST_EDGE, LONGEST_EDGE);
  const widest = isTall && inARow === 1 ? width - 2 : WIDEST;
  return { isTall, width: clamp(share - edge, NARROWEST, widest), along: isTall ? 26 : edge, across: 16 };
}

const clamp = (number, least, most) => Math.min(most, Math.max(least, number));

/** Each task one layer behind the last of those it waits for; within a layer near to those. */
export function layersOf(tasks) {
  const upstream = new Map(tasks.map((task) => [task.task_id, []]));
  tasks.forEach((task) => task.downstream_task_ids.forEach((to) => upstream.get(to)?.push(task.task_id)));
  const depths = new Map();
  const depth = (id) => {
    if (!depths.has(id)) depths.set(id, 1 + Math.max(-1, ...upstream.get(id).map(depth)));
    return depths.get(id);
  };
  const layers = [];
  tasks.forEach((task) => (layers[depth(task.task_id)] ??= []).push(task.task_id));
  const rank = new Map();
  layers.forEach((layer) => {
    const wish = (id) => mean(upstream.get(id).map((from) => rank.get(from)));
    layer.sort((one, other) => wish(one) - wish(other)).forEach((id, at) => rank.set(id, at - (layer.length - 1) / 2));
  });
  return layers;
}

const mean = (numbers) => (numbers.length ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : 0);

function placed(layers, { isTall, width, along, across }) {
  const step = (isTall ? HEIGHT : width) + along;
  const stepAcross = (isTall ? width : HEIGHT) + across;
  const widest = Math.max(...layers.map((layer) => layer.length));
  const places = new Map();
  layers.forEach((layer, depth) => {
    layer.forEach((id, at) => {
      const offset = (at + (widest - layer.length) / 2) * stepAcross;
      places.set(id, isTall ? { x: offset, y: depth * step } : { x: depth * step, y: offset });
    });
  });
  return places;
}

function extent(places, { width }) {
  const all = [...places.values()];
  return { width: Math.max(...all.map(({ x }) => x)) + width + 2, height: Math.max(...all.map(({ y }) => y)) + HEIGHT + 2 };
}

function edge(from, to, { isTall, width }) {
  if (!from || !to) return null;
  const start = isTall ? [from.x + width / 2, from.y + HEIGHT + 2] : [from.x + width + 2, from.y + HEIGHT / 2 + 1];
  const end = isTall ? [to.x + width / 2, to.y] : [to.x, to.y + HEIGHT / 2 + 1];
  const half = isTall ? (end[1] - start[1]) / 2 : (end[0] - start[0]) / 2;
  const bend = isTall ? [start[0], start[1] + half, end[0], end[1] - half] : [start[0] + half, start[1], end[0] - half, end[1]];
  return svg("path", { class: "edge", d: `M${start}C${bend} ${end}`, fill: "none", "aria-hidden": "true" });
}

function node(task, place, states, { width }, { href, isChosen }) {
  const state = together(states);
  const finished = states.filter((one) => one === "success").length;
  const words = states.length > 1 ? `${label(state)} · ${finished}/${states.length}` : label(state);
  const mark = icon(tone(state));
  mark.setAttribute("x", 11);
  mark.setAttribute("y", 24);
  return svg(
    "g",
    { class: "node", transform: `translate(${place.x + 1} ${place.y + 1})`, data: { tone: tone(state), state, task: task.task_id }, role: "listitem" },
    svg(
      "a",
      { href, "aria-current": isChosen && "true", data: { key: `task ${task.task_id}` }, "aria-label": `${task.task_id}: ${words}. Show its log` },
      svg("title", {}, `${task.task_id}: ${words}. Show its log`),
      svg("rect", { width, height: HEIGHT, rx: 8 }),
      svg("text", { class: "node-name", x: 12, y: 19 }, shortened(task.task_id, (width - 20) / LETTER)),
      mark,
      svg("text", { class: "node-state", x: 30, y: 35 }, words),
    ),
  );
}

/** Without the names of its groups, and no longer than its box. */
function shortened(id, most) {
  const name = id.split(".").at(-1);
  return name.length > most ? `${name.slice(0, Math.floor(most) - 1)}…` : name;
}

function statesOf(instances) {
  const states = new Map();
  instances.forEach((one) => states.set(one.task_id, [...(states.get(one.task_id) ?? []), one.state]));
  return states;
}
