// Fields from the JSON schema of a DAG's parameters. The API judges what is typed; here it is only read.

import { el, fill } from "./dom.js";

/** One field per parameter: `{element, name, read(), complain(messages)}`. `make` is for one of a special kind. */
export function parameterField(name, schema, { value, required, make = control }) {
  const id = `parameter-${name}`;
  const input = make(schema, id, value);
  const problem = el("span", { class: "problem small", id: `${id}-problem` });
  const hint = schema.description && el("span", { class: "hint", id: `${id}-hint` }, withCode(schema.description));
  input.element.setAttribute("aria-describedby", `${id}-hint ${id}-problem`);
  const caption = el(
    "span",
    { class: "caption" },
    schema.title || name,
    required && el("span", { class: "required", title: "Required" }, " *"),
    el("code", { class: "quiet" }, [name, typeName(schema), bounds(schema)].filter(Boolean).join(" · ")),
  );
  const element = el("label", { class: "field", data: { kind: input.kind, parameter: name } }, caption, input.element, hint, problem);

  function complain(messages) {
    fill(problem, messages.join(" "));
    input.element.setAttribute("aria-invalid", messages.length > 0);
  }

  return { element, name, read: input.read, complain, focus: () => input.element.focus() };
}

/** What stands between backticks is code, as in the descriptions that Airflow shows. */
const withCode = (text) => text.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));

/** What `read` throws when a text can not be taken for the value that it stands for. */
export class UnreadableError extends Error {}

function control(schema, id, value) {
  const types = typesOf(schema);
  if (schema.enum) return choice(schema.enum, id, value);
  if (types.includes("boolean") && types.length > 1) return choice([...(types.includes("null") ? [null] : []), true, false], id, value);
  if (types.includes("boolean")) return toggle(id, value);
  if (types.some((type) => type === "object" || type === "array") || !types.length) return json(id, value);
  return text(schema, types, id, value);
}

/** A moment, typed as the clock at the wall shows it and read as ISO 8601 in UTC. */
export function moment(_schema, id) {
  const element = el("input", { id, type: "datetime-local" });
  return { kind: "moment", element, read: () => readMoment(element) };
}

function readMoment(element) {
  if (element.validity.badInput) throw new UnreadableError("Expected a day and a time, or nothing.");
  return element.value ? new Date(element.value).toISOString() : undefined;
}

function choice(values, id, value) {
  const chosen = JSON.stringify(value ?? null);
  const options = values.map((one) => {
    const text = one === null ? "none" : String(one);
    return el("option", { value: JSON.stringify(one), selected: JSON.stringify(one) === chosen }, text);
  });
  // Nothing is chosen for somebody who has to choose.
  if (value === undefined && !values.includes(null)) options.unshift(el("option", { value: "", selected: true }, "choose…"));
  const element = el("select", { id }, options);
  return { kind: "choice", element, read: () => (element.value ? JSON.parse(element.value) : undefined) };
}

function toggle(id, value) {
  const element = el("input", { id, type: "checkbox", checked: value === true });
  return { kind: "toggle", element, read: () => element.checked };
}

function json(id, value) {
  const element = el("textarea", { id, rows: 3, class: "mono", spellcheck: "false", placeholder: "JSON" });
  element.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  return { kind: "json", element, read: () => readJson(element.value) };
}

function readJson(typed) {
  if (!typed.trim()) return undefined;
  try {
    return JSON.parse(typed);
  } catch (error) {
    throw new UnreadableError(`This is not JSON: ${error.message}.`);
  }
}

function text(schema, types, id, value) {
  const isNumber = types.includes("number") || types.includes("integer");
  const isLong = !isNumber && (schema.format === "multiline" || schema.maxLength > 400);
  const element = isLong
    ? el("textarea", { id, rows: 3 })
    : el("input", { id, type: "text", inputmode: isNumber && "decimal", autocomplete: "off", list: schema.examples && `${id}-examples` });
  element.value = value ?? "";
  if (types.includes("null")) element.placeholder = "none";
  const examples = schema.examples?.map((example) => el("option", { value: example }));
  if (examples) element.append(el("datalist", { id: `${id}-examples` }, examples));
  return { kind: "text", element, read: () => readText(element.value, types, isNumber) };
}

function readText(typed, types, isNumber) {
  if (typed === "" && types.includes("null")) return null;
  if (!isNumber) return typed;
  if (!typed.trim()) return undefined;
  // What is no number goes to the API as it was typed, which says so at the field.
  return Number.isFinite(Number(typed)) ? Number(typed) : typed;
}

const typesOf = (schema) => (schema.type === undefined ? [] : [schema.type].flat());

function typeName(schema) {
  return schema.enum ? "" : typesOf(schema).filter((type) => type !== "null").join(" or ");
}

function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `${minimum}–${maximum}`;
  if (minimum !== undefined) return `from ${minimum}`;
  return maximum === undefined ? "" : `up to ${maximum}`;
}
