import assert from "node:assert/strict";
import { test } from "node:test";

import { nameOf } from "../../static/console/task-name.js";

test("an instance of a mapped task shows its index", () => {
  assert.equal(nameOf({ task_id: "load", map_index: -1 }), "load");
  assert.equal(nameOf({ task_id: "load", map_index: 0 }), "load [0]");
});
