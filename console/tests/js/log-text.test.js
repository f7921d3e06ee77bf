import assert from "node:assert/strict";
import { test } from "node:test";

import { instanceFor, lengthOf, wordsOf } from "../../static/console/log-text.js";

const instances = (...states) => states.map((state, index) => ({ map_index: index, state }));

test("the address chooses the instance by its index", () => {
  assert.equal(instanceFor(instances("failed", "success"), "1").state, "success");
  assert.equal(instanceFor(instances("failed"), "7"), undefined);
});

test("without an index a failed instance goes first, then one that still works", () => {
  assert.equal(instanceFor(instances("success", "running", "failed"), null).map_index, 2);
  assert.equal(instanceFor(instances("success", "running"), null).map_index, 1);
  assert.equal(instanceFor(instances("queued", "scheduled"), null).map_index, 0);
  assert.equal(instanceFor([], null), undefined);
});

test("a line loses its colour codes", () => {
  assert.equal(wordsOf({ level: null, text: "\x1b[1;31mred\x1b[0m text" }).text, "red text");
});

test("warnings and worse begin with their level", () => {
  assert.deepEqual(wordsOf({ level: "error", text: "broken" }), { level: "error", prefix: "ERROR ", text: "broken" });
  assert.deepEqual(wordsOf({ level: "info", text: "fine" }), { level: "info", prefix: "", text: "fine" });
});

test("a section of Airflow's own messages keeps its title and loses its marks", () => {
  assert.deepEqual(wordsOf({ level: null, text: "::group::Post Execute" }), {
    level: "fold",
    prefix: "",
    text: "Post Execute",
  });
  assert.equal(wordsOf({ level: null, text: "::endgroup::" }), null);
});

test("the length of a log counts the characters of all lines", () => {
  assert.equal(lengthOf([{ text: "one" }, { text: "" }, { text: "three" }]), 8);
});
