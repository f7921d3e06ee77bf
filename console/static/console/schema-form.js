// Form fields from the JSON schema of a DAG's parameters.

import { el, fill } from "./dom.js";
import {
  choicesOf,
  isLongText,
  isNullable,
  isNumeric,
  kindOf,
  readJson,
  readMoment,
  readText,
  summary,
  UnreadableError,
} from "./schema.js";

/**
 * `read` returns undefined for a value that is not given.
 * @typedef {{ kind: string, element: HTMLElement, read: () => unknown }} Control
 * @typedef {(schema: Api.Schema, id: string, value: unknown) => Control} MakeControl
 */

/**
 * @typedef {object} Field
 * @property {string} name
 * @property {HTMLElement} element
 * @property {() => unknown} read
 * @property {(messages: string[]) => void} complain show these messages at the field, or none
 * @property {() => void} focus
 */

/**
 * A field for one parameter.
 * @param {string} name
 * @param {Api.Schema} schema
 * @param {{ value?: unknown, required?: boolean, make?: MakeControl }} options `make` creates a special control
 * @returns {Field}
 */
export function parameterField(name, schema, { value, required = false, make = controlFor }) {
  const id = `parameter-${name}`;
  const input = make(schema, id, value);
  const problem = el("span", { class: "problem small", id: `${id}-problem` });
  const hint = schema.description && el("span", { class: "hint", id: `${id}-hint` }, withCode(schema.description));
  input.element.setAttribute("aria-describedby", `${id}-hint ${id}-problem`);
  const data = { kind: input.kind, parameter: name };
  const caption = captionOf(name, schema, required);
  return {
    name,
    element: el("label", { class: "field", data }, caption, input.element, hint, problem),
    read: input.read,
    complain: (messages) => {
      fill(problem, messages.join(" "));
      input.element.setAttribute("aria-invalid", String(messages.length > 0));
    },
    focus: () => input.element.focus(),
  };
}

/**
 * @param {string} name
 * @param {Api.Schema} schema
 * @param {boolean} required
 */
function captionOf(name, schema, required) {
  const star = required && el("span", { class: "required", title: "Required" }, " *");
  const code = el("code", { class: "quiet" }, summary(name, schema));
  return el("span", { class: "caption" }, schema.title || name, star, code);
}

/**
 * Show text between backticks as code, as Airflow does in descriptions.
 * @param {string} text
 */
const withCode = (text) => text.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));

/** @type {MakeControl} */
function controlFor(schema, id, value) {
  return { choice, toggle, json, text }[kindOf(schema)](schema, id, value);
}

/**
 * A date with a time, in the reader's own time zone.
 * @type {MakeControl}
 */
export function moment(_schema, id) {
  const element = el("input", { id, type: "datetime-local" });
  const read = () => {
    if (element.validity.badInput) throw new UnreadableError("Expected a date and a time, or nothing.");
    return readMoment(element.value);
  };
  return { kind: "moment", element, read };
}

/** @type {MakeControl} */
function choice(schema, id, value) {
  const values = choicesOf(schema);
  const chosen = JSON.stringify(value ?? null);
  const options = values.map((one) => {
    const encoded = JSON.stringify(one);
    return el("option", { value: encoded, selected: encoded === chosen }, one === null ? "none" : String(one));
  });
  // Without a default, the user has to choose.
  const isOpen = value === undefined && !values.includes(null);
  if (isOpen) options.unshift(el("option", { value: "", selected: true }, "choose…"));
  const element = el("select", { id }, options);
  return { kind: "choice", element, read: () => (element.value ? JSON.parse(element.value) : undefined) };
}

/** @type {MakeControl} */
function toggle(_schema, id, value) {
  const element = el("input", { id, type: "checkbox", checked: value === true });
  return { kind: "toggle", element, read: () => element.checked };
}

/** @type {MakeControl} */
function json(_schema, id, value) {
  const element = el("textarea", { id, rows: 3, class: "mono", spellcheck: "false", placeholder: "JSON" });
  element.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  return { kind: "json", element, read: () => readJson(element.value) };
}

/** @type {MakeControl} */
function text(schema, id, value) {
  const element = isLongText(schema) ? el("textarea", { id, rows: 3 }) : lineInput(schema, id);
  element.value = String(value ?? "");
  if (isNullable(schema)) element.placeholder = "none";
  return { kind: "text", element, read: () => readText(element.value, schema) };
}

/**
 * @param {Api.Schema} schema
 * @param {string} id
 */
function lineInput(schema, id) {
  const list = schema.examples && `${id}-examples`;
  const inputmode = isNumeric(schema) && "decimal";
  const examples = schema.examples?.map((example) => el("option", { value: String(example) }));
  const input = el("input", { id, type: "text", inputmode, autocomplete: "off", list });
  if (examples) input.append(el("datalist", { id: list }, examples));
  return input;
}
