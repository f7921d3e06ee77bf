import assert from "node:assert/strict";
import { test } from "node:test";

import {
  curve,
  extentOf,
  fitted,
  HEIGHT,
  layersOf,
  placesOf,
  shapeFor,
  statesOf,
} from "../../static/console/graph-layout.js";

/** Tasks from `{id: [ids of the tasks that follow]}`. */
const tasksOf = (edges) =>
  Object.entries(edges).map(([id, downstream]) => ({ task_id: id, downstream_task_ids: downstream }));

const FORK = tasksOf({ extract: ["clean", "count"], clean: ["load"], count: ["load"], load: [] });

test("a task comes one layer behind the last task that it waits for", () => {
  const tasks = tasksOf({ start: ["long", "end"], long: ["longer"], longer: ["end"], end: [] });

  assert.deepEqual(layersOf(tasks), [["start"], ["long"], ["longer"], ["end"]]);
});

test("tasks that run side by side share a layer", () => {
  assert.deepEqual(layersOf(FORK), [["extract"], ["clean", "count"], ["load"]]);
});

test("within a layer tasks are near to those that they wait for", () => {
  const tasks = tasksOf({ left: ["of_left"], right: ["of_right"], of_right: [], of_left: [] });

  assert.deepEqual(layersOf(tasks), [
    ["left", "right"],
    ["of_left", "of_right"],
  ]);
});

test("a task that the DAG does not list is ignored", () => {
  assert.deepEqual(layersOf(tasksOf({ start: ["unknown"] })), [["start"]]);
  assert.deepEqual(layersOf([]), []);
});

test("on a wide page layers go from left to right and no boxes overlap", () => {
  const layers = layersOf(FORK);
  const shape = shapeFor(layers, 1000);
  const places = placesOf(layers, shape);

  assert.equal(shape.isTall, false);
  assert.ok(places.get("clean").x >= places.get("extract").x + shape.width);
  assert.ok(places.get("count").y >= places.get("clean").y + HEIGHT);
  assert.equal(places.get("extract").y, places.get("load").y);
  assert.ok(extentOf(places, shape).width <= 1000);
});

test("on a narrow page layers go from top to bottom", () => {
  const layers = layersOf(FORK);
  const shape = shapeFor(layers, 360);
  const places = placesOf(layers, shape);

  assert.equal(shape.isTall, true);
  assert.ok(places.get("clean").y >= places.get("extract").y + HEIGHT);
  assert.equal(places.get("clean").y, places.get("count").y);
  assert.ok(extentOf(places, shape).width <= 360);
});

test("boxes keep a readable width when the graph is wider than the page", () => {
  const chain = Array.from({ length: 30 }, (_, at) => [`task_${at}`, at < 29 ? [`task_${at + 1}`] : []]);

  const layers = layersOf(tasksOf(Object.fromEntries(chain)));

  assert.equal(layers.length, 30);
  assert.equal(shapeFor(layers, 1000).width, 132);
});

test("an edge leads from the end of one box to the begin of the next", () => {
  const [from, to] = [
    { x: 0, y: 0 },
    { x: 200, y: 62 },
  ];

  assert.equal(curve(from, to, { isTall: false, width: 150 }), "M152,24C176,24,176,86 200,86");
  assert.equal(curve(from, to, { isTall: true, width: 150 }), "M75,48C75,55,275,55 275,62");
});

test("a name loses its groups and is cut where the box ends", () => {
  assert.equal(fitted("group.inner.load", 184), "load");
  assert.equal(fitted("a_name_that_is_much_too_long_for_it", 132), "a_name_that_is_…");
});

test("the states of mapped instances are collected by task", () => {
  const instances = [
    { task_id: "a", state: "success" },
    { task_id: "b", state: "" },
    { task_id: "a", state: "failed" },
  ];

  assert.deepEqual(Object.fromEntries(statesOf(instances)), { a: ["success", "failed"], b: [""] });
});
