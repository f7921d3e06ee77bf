#!/usr/bin/env node
import { parseArgs } from "node:util";
import { Svops } from "./client.js";
import { SvopsError } from "./errors.js";
import { typesFor } from "./types-for.js";

const USE = `svops-types WORKFLOW [--url URL]

Prints a type for the parameters of a workflow, named by its id or its name.
SVOPS_URL says where SVOps is, SVOPS_TOKEN has an API key or an access token.
`;

async function main(): Promise<void> {
  const options = { url: { type: "string" }, help: { type: "boolean", short: "h" } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [wanted] = positionals;
  if (values.help || wanted === undefined) {
    process.stdout.write(USE);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const { SVOPS_URL, SVOPS_TOKEN } = process.env;
  const svops = new Svops({ url: values.url ?? SVOPS_URL ?? "http://127.0.0.1:8000", token: SVOPS_TOKEN || undefined });
  const workflow = await svops.get("/workflows/{id}", { path: { id: await idOf(svops, wanted) } });
  const { dag_id, airflow, name, default_parameters } = workflow;
  const dag = await svops.get("/dags/{dag_id}", { path: { dag_id }, query: { airflow } });
  process.stdout.write(typesFor(name, dag.params_schema, default_parameters));
}

async function idOf(svops: Svops, wanted: string): Promise<number | string> {
  if (/^\d+$/.test(wanted)) return wanted;
  for await (const { id, name } of svops.list("/workflows", { query: { search: wanted } })) {
    if (name === wanted) return id;
  }
  throw new SvopsError(404, { detail: `There is no workflow ${JSON.stringify(wanted)}, or you cannot see it.` });
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
});
