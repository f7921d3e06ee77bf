import assert from "node:assert/strict";
import { test } from "node:test";

import {
  choicesOf,
  fieldSpecs,
  isLongText,
  kindOf,
  readJson,
  readMoment,
  readText,
  summary,
  UnreadableError,
} from "../../static/console/schema.js";

const SCHEMA = {
  properties: {
    rows: { type: "integer", minimum: 1 },
    share: { type: "number", default: 0.5 },
    table: { type: ["null", "string"] },
  },
  required: ["rows", "share"],
};

test("there is a field for each parameter, in the order of the schema", () => {
  assert.deepEqual(
    fieldSpecs(SCHEMA, {}).map(({ name, value, required }) => [name, value, required]),
    [
      ["rows", undefined, true],
      ["share", 0.5, false],
      ["table", undefined, false],
    ],
  );
});

test("a default of the workflow goes before the one of the DAG, even when it is false or null", () => {
  const specs = fieldSpecs(SCHEMA, { rows: 0, share: null, other: 1 });

  assert.deepEqual(
    specs.map(({ value, required }) => [value, required]),
    [
      [0, false],
      [null, false],
      [undefined, false],
    ],
  );
});

test("a DAG without parameters has no fields", () => {
  assert.deepEqual(fieldSpecs({}, {}), []);
});

test("the kind of a field follows from its schema", () => {
  const kinds = [
    [{ enum: ["fast", "slow"] }, "choice"],
    [{ type: "boolean" }, "toggle"],
    [{ type: ["null", "boolean"] }, "choice"],
    [{ type: "object" }, "json"],
    [{ type: ["null", "array"] }, "json"],
    [{}, "json"],
    [{ type: "string" }, "text"],
    [{ type: ["null", "integer"] }, "text"],
  ];

  for (const [schema, kind] of kinds) assert.equal(kindOf(schema), kind, JSON.stringify(schema));
});

test("the choices are those of the enum, or of a boolean", () => {
  assert.deepEqual(choicesOf({ enum: [1, "a", null] }), [1, "a", null]);
  assert.deepEqual(choicesOf({ type: ["null", "boolean"] }), [null, true, false]);
  assert.deepEqual(choicesOf({ type: ["boolean", "string"] }), [true, false]);
});

test("a number is read as a number, and another text is left for the API to refuse", () => {
  const read = (typed) => readText(typed, { type: "integer" });

  assert.equal(read("12"), 12);
  assert.equal(read(" -0.5 "), -0.5);
  assert.equal(read("1e3"), 1000);
  assert.equal(read("half"), "half");
  assert.equal(read("Infinity"), "Infinity");
  assert.equal(read("  "), undefined);
});

test("a text stays as it was typed", () => {
  assert.equal(readText(" 12 ", { type: "string" }), " 12 ");
  assert.equal(readText("", { type: "string" }), "");
});

test("an empty text is null where the schema allows null", () => {
  assert.equal(readText("", { type: ["null", "string"] }), null);
  assert.equal(readText("", { type: ["null", "number"] }), null);
});

test("JSON is read as its value, and nothing as no value", () => {
  assert.deepEqual(readJson('["id", {"a": null}]'), ["id", { a: null }]);
  assert.equal(readJson(" \n"), undefined);
  assert.throws(() => readJson("[1,"), UnreadableError);
  assert.throws(() => readJson("{"), /^Error: This is not JSON: /);
});

test("a local time becomes the same moment in UTC", () => {
  const iso = readMoment("2030-01-31T09:30");

  assert.match(iso, /Z$/);
  assert.equal(Date.parse(iso), new Date(2030, 0, 31, 9, 30).getTime());
  assert.equal(readMoment(""), undefined);
});

test("the caption names the parameter, its types and its bounds", () => {
  assert.equal(summary("rows", { type: "integer", minimum: 1, maximum: 1000 }), "rows · integer · 1–1000");
  assert.equal(
    summary("rows", { type: ["null", "integer", "string"], minimum: 0 }),
    "rows · integer or string · from 0",
  );
  assert.equal(summary("rows", { maximum: 5 }), "rows · up to 5");
  assert.equal(summary("mode", { type: "string", enum: ["fast"] }), "mode");
});

test("a long text gets several lines", () => {
  assert.equal(isLongText({ type: "string", format: "multiline" }), true);
  assert.equal(isLongText({ type: "string", maxLength: 401 }), true);
  assert.equal(isLongText({ type: "string", maxLength: 400 }), false);
  assert.equal(isLongText({ type: "integer", format: "multiline" }), false);
});
