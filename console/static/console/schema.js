// Reads the JSON schema of a DAG's parameters: which fields a form needs, and the value of a typed text. Knows
// nothing of the page. It does not validate: that is up to the API.

/**
 * @typedef {"choice" | "toggle" | "json" | "text"} Kind
 * @typedef {{ name: string, schema: Api.Schema, value: unknown, required: boolean }} FieldSpec
 */

/** A typed text that cannot be read as a value of its type. */
export class UnreadableError extends Error {}

const LONG_TEXT = 400;

/** @param {Api.ObjectSchema} schema */
export const propertiesOf = (schema) => schema.properties ?? {};

/**
 * The fields for the parameters of a workflow. The defaults of the workflow go before those of the DAG.
 * @param {Api.ObjectSchema} schema
 * @param {Record<string, unknown>} defaults
 * @returns {FieldSpec[]}
 */
export function fieldSpecs(schema, defaults) {
  return Object.entries(propertiesOf(schema)).map(([name, property]) => {
    const value = name in defaults ? defaults[name] : property.default;
    const required = (schema.required?.includes(name) ?? false) && value === undefined;
    return { name, schema: property, value, required };
  });
}

/** @param {Api.Schema} schema */
const typesOf = (schema) => (schema.type === undefined ? [] : [schema.type].flat());

/**
 * The kind of control for a value of this schema.
 * @param {Api.Schema} schema
 * @returns {Kind}
 */
export function kindOf(schema) {
  const types = typesOf(schema);
  if (schema.enum) return "choice";
  if (types.includes("boolean")) return types.length > 1 ? "choice" : "toggle";
  return !types.length || types.includes("object") || types.includes("array") ? "json" : "text";
}

/**
 * The values to choose from: those of an enum, or of a boolean that can also be null.
 * @param {Api.Schema} schema
 * @returns {unknown[]}
 */
export function choicesOf(schema) {
  return schema.enum ?? [...(isNullable(schema) ? [null] : []), true, false];
}

/** @param {Api.Schema} schema */
export const isNullable = (schema) => typesOf(schema).includes("null");

/** @param {Api.Schema} schema */
export const isNumeric = (schema) => typesOf(schema).some((type) => type === "number" || type === "integer");

/** @param {Api.Schema} schema */
export const isLongText = (schema) =>
  !isNumeric(schema) && (schema.format === "multiline" || (schema.maxLength ?? 0) > LONG_TEXT);

/**
 * "integer · 1–1000", for the caption of a field.
 * @param {string} name
 * @param {Api.Schema} schema
 */
export const summary = (name, schema) => [name, typeName(schema), bounds(schema)].filter(Boolean).join(" · ");

/** @param {Api.Schema} schema */
function typeName(schema) {
  const types = typesOf(schema).filter((type) => type !== "null");
  return schema.enum ? "" : types.join(" or ");
}

/** @param {Api.Schema} schema */
function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `${minimum}–${maximum}`;
  if (minimum !== undefined) return `from ${minimum}`;
  return maximum === undefined ? "" : `up to ${maximum}`;
}

/**
 * The value of a typed text. An empty text is null where null is allowed. An empty number is undefined: not given.
 * @param {string} typed
 * @param {Api.Schema} schema
 */
export function readText(typed, schema) {
  if (typed === "" && isNullable(schema)) return null;
  if (!isNumeric(schema)) return typed;
  if (!typed.trim()) return undefined;
  // A text that is not a number goes to the API as it is, and the API's message is shown at the field.
  return Number.isFinite(Number(typed)) ? Number(typed) : typed;
}

/**
 * The value of a typed JSON text, or undefined for an empty one. Throws `UnreadableError` for other texts.
 * @param {string} typed
 * @returns {unknown}
 */
export function readJson(typed) {
  if (!typed.trim()) return undefined;
  try {
    return JSON.parse(typed);
  } catch (error) {
    throw new UnreadableError(`This is not JSON: ${/** @type {Error} */ (error).message}.`);
  }
}

/**
 * An ISO 8601 time in UTC for a time in the reader's own time zone, or undefined for an empty text.
 * @param {string} typed as `datetime-local` gives it: "2030-01-31T09:30"
 */
export const readMoment = (typed) => (typed ? new Date(typed).toISOString() : undefined);
