// Draws the task graph of a run.

import { icon } from "./badges.js";
import { svg } from "./dom.js";
import { curve, extentOf, fitted, HEIGHT, layersOf, placesOf, shapeFor, statesOf } from "./graph-layout.js";
import { label, together, tone } from "./states.js";

/**
 * @typedef {object} Options
 * @property {number} width the width of the place for the graph
 * @property {(taskId: string) => string} addressOf where a click on a task leads
 * @property {string} [chosen] the task whose log is shown
 */

/**
 * Draw the tasks of a DAG with the states of their instances.
 * @param {Api.DagTask[]} tasks
 * @param {Api.TaskInstance[]} instances
 * @param {Options} options
 */
export function drawGraph(tasks, instances, { width, addressOf, chosen }) {
  const layers = layersOf(tasks);
  const shape = shapeFor(layers, width);
  const places = placesOf(layers, shape);
  const size = extentOf(places, shape);
  const states = statesOf(instances);
  const nodes = tasks.map(({ task_id: id }) =>
    node(id, places.get(id), { states: states.get(id) ?? [], shape, href: addressOf(id), isChosen: id === chosen }),
  );
  const edges = tasks.flatMap((task) =>
    task.downstream_task_ids.map((to) => edge(places.get(task.task_id), places.get(to), shape)),
  );
  const viewBox = `0 0 ${size.width} ${size.height}`;
  return svg("svg", { class: "graph", viewBox, ...size, role: "list", "aria-label": "Tasks" }, edges, nodes);
}

/**
 * @param {import("./graph-layout.js").Place | undefined} from
 * @param {import("./graph-layout.js").Place | undefined} to
 * @param {import("./graph-layout.js").Shape} shape
 */
function edge(from, to, shape) {
  if (!from || !to) return null;
  return svg("path", { class: "edge", d: curve(from, to, shape), fill: "none", "aria-hidden": "true" });
}

/**
 * @param {string} id
 * @param {import("./graph-layout.js").Place | undefined} place
 * @param {{ states: string[], shape: import("./graph-layout.js").Shape, href: string, isChosen: boolean }} options
 */
function node(id, place = { x: 0, y: 0 }, { states, shape, href, isChosen }) {
  const state = together(states);
  const words = wordsFor(state, states);
  const title = `${id}: ${words}. Show its log`;
  const mark = icon(tone(state));
  mark.setAttribute("x", "11");
  mark.setAttribute("y", "24");
  const transform = `translate(${place.x + 1} ${place.y + 1})`;
  return svg(
    "g",
    { class: "node", transform, data: { tone: tone(state), state, task: id }, role: "listitem" },
    svg(
      "a",
      { href, "aria-current": isChosen && "true", data: { key: `task ${id}` }, "aria-label": title },
      svg("title", {}, title),
      svg("rect", { width: shape.width, height: HEIGHT, rx: 8 }),
      svg("text", { class: "node-name", x: 12, y: 19 }, fitted(id, shape.width)),
      mark,
      svg("text", { class: "node-state", x: 30, y: 35 }, words),
    ),
  );
}

/**
 * "Running", or "Running · 3/8" for a mapped task with 3 instances that have succeeded.
 * @param {string} state
 * @param {string[]} states
 */
function wordsFor(state, states) {
  if (states.length < 2) return label(state);
  return `${label(state)} · ${states.filter((one) => one === "success").length}/${states.length}`;
}
