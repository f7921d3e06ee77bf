// Triggers a workflow, with a form made from the schema of its DAG's parameters.

import { dagPath } from "./airflows.js";
import { ApiError, get, post } from "./api.js";
import { openDialog } from "./dialog.js";
import { el } from "./dom.js";
import { placeErrors } from "./field-errors.js";
import { idempotencyKeys } from "./idempotency.js";
import { fieldSpecs, propertiesOf, UnreadableError } from "./schema.js";
import { moment, parameterField } from "./schema-form.js";
import { toast } from "./toasts.js";

/** @typedef {import("./schema-form.js").Field} Field */

/** A field whose text cannot be read. */
class FieldError extends UnreadableError {
  /**
   * @param {Field} field
   * @param {string} message
   */
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/**
 * Open the form. `triggered` receives the new run.
 * @param {Pick<Api.Workflow, "id" | "name" | "airflow" | "dag_id">} listed
 * @param {(run: Api.Run) => unknown} triggered
 */
export async function openTrigger(listed, triggered) {
  /** @type {[Api.DagDetail, Api.Workflow]} */
  const [dag, workflow] = await Promise.all([
    get(dagPath(listed)),
    // A list leaves out the default parameters.
    get(`/workflows/${listed.id}`),
  ]);
  const fields = parameterFields(dag.params_schema, workflow.default_parameters);
  const own = referenceFields();
  const keyFor = idempotencyKeys();

  openDialog({
    title: `Run ${workflow.name}`,
    subtitle: dag.description || workflow.dag_id,
    action: "Trigger run",
    body: bodyOf(workflow, dag, fields, own),
    submit: async () => {
      for (const field of [...fields, ...own]) field.complain([]);
      const content = { ...readAll(own), parameters: readAll(fields) };
      const run = await post(`/workflows/${workflow.id}/runs`, content, { "Idempotency-Key": keyFor(content) });
      toast(`${workflow.name} was triggered.`);
      triggered(run);
    },
    explain: (error) => showErrors(error, fields, own),
  });
  fields[0]?.focus();
}

/**
 * @param {Api.Workflow} workflow
 * @param {Api.DagDetail} dag
 * @param {Field[]} fields
 * @param {Field[]} own
 */
function bodyOf(workflow, dag, fields, own) {
  const known = propertiesOf(dag.params_schema);
  const more = Object.keys(workflow.default_parameters).filter((name) => !(name in known));
  const title = el("summary", {}, "Start later, date, note and references");
  return [
    dag.is_paused && el("p", { class: "notice" }, "The DAG is paused. The run waits until somebody resumes it."),
    fields.map((field) => field.element),
    !fields.length && el("p", { class: "quiet" }, "This workflow takes no parameters."),
    more.length > 0 && el("p", { class: "hint" }, `Also sent, from the workflow's defaults: ${more.join(", ")}.`),
    el("details", { class: "more" }, title, ...own.map((field) => field.element)),
  ];
}

/**
 * @param {Api.ObjectSchema} schema
 * @param {Record<string, unknown>} defaults
 */
function parameterFields(schema, defaults) {
  return fieldSpecs(schema, defaults).map(({ name, schema: property, value, required }) =>
    parameterField(name, property, { value, required }),
  );
}

/** Fields of the run itself. An empty one is not sent. */
function referenceFields() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const reference = "Your own reference. The DAG receives it.";
  const fields = [
    parameterField(
      "run_at",
      { title: "Start at", description: `Your time zone: ${zone}. Leave empty to start at once.` },
      { make: moment },
    ),
    parameterField(
      "logical_date",
      {
        title: "Logical date",
        description: `The date of the run in Airflow, for DAGs that use {{ ds }}. Your time zone: ${zone}.`,
      },
      { make: moment },
    ),
    textField("note", "Note", "Shown with the run, here and in Airflow."),
    textField("task_id", "Your task", reference),
    textField("dataset_id", "Your dataset", reference),
  ];
  return fields.map((field) => ({ ...field, read: () => field.read() || undefined }));
}

/** @type {(name: string, title: string, description: string) => Field} */
const textField = (name, title, description) => parameterField(name, { title, type: "string", description }, {});

/** @param {Field[]} fields */
function readAll(fields) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const field of fields) {
    const value = readOne(field);
    if (value !== undefined) values[field.name] = value;
  }
  return values;
}

/** @param {Field} field */
function readOne(field) {
  try {
    return field.read();
  } catch (error) {
    throw error instanceof UnreadableError ? new FieldError(field, error.message) : error;
  }
}

/**
 * Show each message at its field. Return false when a message has no field; the error then holds those messages.
 * @param {unknown} error
 * @param {Field[]} fields
 * @param {Field[]} own
 */
function showErrors(error, fields, own) {
  if (error instanceof FieldError) {
    error.field.complain([error.message]);
    reveal(error.field);
    return true;
  }
  if (!(error instanceof ApiError) || !Object.keys(error.errors).length) return false;
  /** @type {[string, Field][]} */
  const entries = [...fields.map((field) => /** @type {[string, Field]} */ ([`parameters.${field.name}`, field]))];
  for (const field of own) entries.push([field.name, field]);
  const { placed, rest } = placeErrors(
    error.errors,
    entries.map(([place]) => place),
  );
  const wrong = entries.filter(([place]) => placed.has(place));
  for (const [place, field] of wrong) field.complain(placed.get(place) ?? []);
  if (wrong.length) reveal(wrong[0][1]);
  if (rest) error.message = rest;
  return !rest;
}

/**
 * Focus the field, after opening the section that hides it.
 * @param {Field} field
 */
function reveal(field) {
  field.element.closest("details")?.setAttribute("open", "");
  field.focus();
}
