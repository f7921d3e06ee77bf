// Triggering a workflow, with a form made from what its DAG says of its parameters.

import { get, post, ApiError } from "./api.js";
import { el } from "./dom.js";
import { openDialog } from "./dialog.js";
import { moment, parameterField, UnreadableError } from "./schema-form.js";
import { toast } from "./toasts.js";

/** Open the form; `triggered(run)` is called with what came of it. */
export async function openTrigger(workflow, triggered) {
  const dag = await get(`/dags/${encodeURIComponent(workflow.dag_id)}`);
  const fields = fieldsOf(workflow, dag.params_schema);
  const own = referenceFields();
  const keyFor = idempotencyKeys();
  const unknown = Object.keys(workflow.default_parameters).filter((name) => !(name in properties(dag.params_schema)));

  openDialog({
    title: `Run ${workflow.name}`,
    subtitle: dag.description || workflow.dag_id,
    action: "Trigger run",
    body: [
      dag.is_paused && el("p", { class: "notice" }, "The DAG is paused: the run will wait until it is resumed."),
      ...fields.map((field) => field.element),
      !fields.length && el("p", { class: "quiet" }, "This workflow takes no parameters."),
      unknown.length > 0 && el("p", { class: "hint" }, `Also handed over, from the workflow's defaults: ${unknown.join(", ")}.`),
      el("details", { class: "more" }, el("summary", {}, "Start later, note and references"), ...own.map((field) => field.element)),
    ],
    submit: async () => {
      [...fields, ...own].forEach((field) => field.complain([]));
      const wanted = { ...readAll(own), parameters: readAll(fields) };
      const run = await post(`/workflows/${workflow.id}/runs`, wanted, { "Idempotency-Key": keyFor(wanted) });
      toast(`${workflow.name} was triggered.`);
      triggered(run);
    },
    explain: (error) => explainAtFields(error, fields, own),
  });
  fields[0]?.focus();
}

/** The same key for the same wish: pressed again after an answer got lost, it is still one run. */
function idempotencyKeys() {
  let last = "";
  let key = "";
  return (wanted) => {
    const now = JSON.stringify(wanted);
    if (now !== last) key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
    last = now;
    return key;
  };
}

const properties = (schema) => schema.properties ?? {};

function fieldsOf(workflow, schema) {
  return Object.entries(properties(schema)).map(([name, property]) => {
    const value = name in workflow.default_parameters ? workflow.default_parameters[name] : property.default;
    return parameterField(name, property, { value, required: schema.required?.includes(name) && value === undefined });
  });
}

/** Fields of the run itself. Left empty, they are not sent. */
function referenceFields() {
  const described = {
    run_at: { title: "Start at", description: `Your time (${Intl.DateTimeFormat().resolvedOptions().timeZone}). Empty: at once.`, make: moment },
    note: { title: "Note", type: "string", description: "Shown with the run, here and in Airflow." },
    task_id: { title: "Your task", type: "string", description: "Your own reference, handed to the DAG." },
    dataset_id: { title: "Your dataset", type: "string", description: "Your own reference, handed to the DAG." },
  };
  return Object.entries(described).map(([name, { make, ...schema }]) => {
    const field = parameterField(name, schema, { required: false, make });
    return { ...field, read: () => field.read() || undefined };
  });
}

function readAll(fields) {
  const values = {};
  for (const field of fields) {
    const value = readOne(field);
    if (value !== undefined) values[field.name] = value;
  }
  return values;
}

function readOne(field) {
  try {
    return field.read();
  } catch (error) {
    if (error instanceof UnreadableError) error.field = field;
    throw error;
  }
}

/** Put each message at its field; false when one of them has none here. */
function explainAtFields(error, fields, own) {
  if (error instanceof UnreadableError) {
    error.field.complain([error.message]);
    reveal(error.field);
    return true;
  }
  if (!(error instanceof ApiError) || !Object.keys(error.errors).length) return false;
  const places = new Map([
    ...own.map((field) => [field.name, field]),
    ...fields.map((field) => [`parameters.${field.name}`, field]),
  ]);
  const told = Object.entries(error.errors).map(([name, messages]) => complainAt(places, name, messages));
  const first = [...fields, ...own].find((field) => told.includes(field));
  if (first) reveal(first);
  const homeless = Object.entries(error.errors).filter((_, index) => !told[index]);
  if (homeless.length) error.message = homeless.map(([name, messages]) => `${name}: ${messages.join(" ")}`).join(" ");
  return homeless.length === 0;
}

/** What is folded away can not be seen, nor have the focus. */
function reveal(field) {
  field.element.closest("details")?.setAttribute("open", "");
  field.focus();
}

/** The field that `parameters.rows` or `parameters.rows.0.name` belongs to, once it has been told. */
function complainAt(places, name, messages) {
  const known = [...places.keys()].find((place) => name === place || name.startsWith(`${place}.`));
  const field = places.get(known);
  field?.complain(messages);
  return field;
}
