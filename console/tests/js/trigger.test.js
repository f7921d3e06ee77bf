import assert from "node:assert/strict";
import { test } from "node:test";

import { placeErrors } from "../../static/console/field-errors.js";
import { idempotencyKeys } from "../../static/console/idempotency.js";

const PLACES = ["parameters.rows", "parameters.rows_more", "note"];

test("each message goes to its field, also one about a part of the value", () => {
  const errors = { "parameters.rows": ["Required."], "parameters.rows.0.name": ["Too long."], note: ["A.", "B."] };

  const { placed, rest } = placeErrors(errors, PLACES);

  assert.deepEqual(Object.fromEntries(placed), {
    "parameters.rows": ["Required.", "Too long."],
    note: ["A.", "B."],
  });
  assert.equal(rest, "");
});

test("a field does not get the messages of another one whose name begins alike", () => {
  const { placed } = placeErrors({ "parameters.rows_more": ["Wrong."] }, PLACES);

  assert.deepEqual([...placed.keys()], ["parameters.rows_more"]);
});

test("messages without a field are joined", () => {
  const { placed, rest } = placeErrors({ dag: ["Gone.", "Really."], "parameters.x": ["Unknown."] }, PLACES);

  assert.equal(placed.size, 0);
  assert.equal(rest, "dag: Gone. Really. parameters.x: Unknown.");
});

test("the same content keeps its key, and changed content gets a new one", () => {
  const unused = ["key 1", "key 2", "key 3", "key 4"];
  const keyFor = idempotencyKeys(() => unused.shift());

  const keys = [{ rows: 1 }, { rows: 1 }, { rows: 2 }, { rows: 1 }].map(keyFor);

  assert.deepEqual(keys, ["key 1", "key 1", "key 2", "key 3"]);
});
