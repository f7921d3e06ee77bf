import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { typesFor } from "../dist/types-for.js";
import { json, serving } from "./stage.js";

const SCHEMA = {
  required: ["rows", "mode"],
  properties: {
    rows: { type: "integer", minimum: 1, description: "How many\n orders; not */ more" },
    mode: { enum: ["full", "fast", 3, null], default: "full" },
    "error-rate": { type: ["number", "null"], title: "Error rate" },
    tags: { type: "array", items: { oneOf: [{ type: "string" }, { type: "integer" }] } },
    pair: { type: "array", items: [{ type: "string" }, { type: "boolean" }] },
    limits: {
      type: "object",
      required: ["most"],
      properties: { most: { type: "number" } },
      additionalProperties: false,
    },
    any: {},
  },
};

const EXPECTED = `/** The parameters of the workflow "nightly — orders 2". */
export interface NightlyOrders2Parameters {
  /** How many orders; not *\\/ more */
  rows: number;
  /** Default: "full". */
  mode?: "full" | "fast" | 3 | null;
  /** Error rate */
  "error-rate"?: number | null;
  tags?: Array<string | number>;
  pair?: [string, boolean];
  limits?: {
    most: number;
  };
  any?: unknown;
}
`;

test("a schema becomes an interface; what the workflow has a default for may be left out", () => {
  assert.equal(typesFor("nightly — orders 2", SCHEMA, { mode: "fast" }), EXPECTED);
});

test("a workflow without parameters has none", () => {
  assert.match(typesFor("7 days", {}), /^export interface Workflow7DaysParameters \{\}$/m);
});

test("svops-types finds the workflow by its name and prints the type", async (t) => {
  const workflow = {
    id: 3,
    name: "nightly — orders 2",
    dag_id: "orders",
    airflow: "prod",
    default_parameters: { mode: "fast" },
  };
  const others = { results: [{ ...workflow, id: 2, name: "nightly — orders 22" }, workflow], next: null };
  const { url, asked } = await serving(t, json(200, others), json(200, workflow), json(200, { params_schema: SCHEMA }));

  const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url));
  const env = { ...process.env, SVOPS_URL: url, SVOPS_TOKEN: "key" };
  const { stdout } = await promisify(execFile)(process.execPath, [bin, workflow.name], { env });

  assert.equal(stdout, EXPECTED);
  assert.deepEqual(
    asked.map((one) => one.url.split("?")[0]),
    ["/api/v1/workflows", "/api/v1/workflows/3", "/api/v1/dags/orders"],
  );
  assert.equal(asked[2].url, "/api/v1/dags/orders?airflow=prod");
});

test("svops-types says what is wrong, and fails", async (t) => {
  const { url } = await serving(t, json(200, { results: [], next: null }));
  const bin = fileURLToPath(new URL("../dist/bin.js", import.meta.url));

  const failed = promisify(execFile)(process.execPath, [bin, "none", "--url", url]);

  await assert.rejects(failed, { code: 1, stderr: 'There is no workflow "none", or you cannot see it.\n' });
});
