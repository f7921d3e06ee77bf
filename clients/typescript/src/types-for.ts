/** The parts of a JSON schema that have a type in TypeScript. */
export interface JsonSchema {
  type?: string | string[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  items?: JsonSchema | JsonSchema[];
  enum?: unknown[];
  const?: unknown;
  oneOf?: JsonSchema[];
  anyOf?: JsonSchema[];
  allOf?: JsonSchema[];
  title?: string;
  description?: string;
  default?: unknown;
}

const PLAIN: Record<string, string> = {
  string: "string",
  integer: "number",
  number: "number",
  boolean: "boolean",
  null: "null",
};

/**
 * Return an exported interface for the parameters of a workflow.
 * `schema` is the `params_schema` of its DAG; what `defaults` has may be left out.
 */
export function typesFor(workflow: string, schema: JsonSchema, defaults: Record<string, unknown> = {}): string {
  const required = (schema.required ?? []).filter((name) => !(name in defaults));
  const body = objectOf({ ...schema, additionalProperties: false, required }, "");
  const what = `/** The parameters of the workflow ${comment(JSON.stringify(workflow))}. */`;
  return `${what}\nexport interface ${nameOf(workflow)}Parameters ${body}\n`;
}

function nameOf(workflow: string): string {
  const words = workflow.normalize("NFKD").match(/[\p{Letter}\p{Number}]+/gu) ?? [];
  const name = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
  return /^\p{Letter}/u.test(name) ? name : `Workflow${name}`;
}

function typeOf(schema: JsonSchema | boolean | undefined, indent: string): string {
  if (typeof schema !== "object" || schema === null) return "unknown";
  if ("const" in schema) return literal(schema.const);
  if (schema.enum) return unionOf(schema.enum.map(literal));
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return unionOf(choices.map((one) => typeOf(one, indent)));
  if (schema.allOf) return schema.allOf.map((one) => `(${typeOf(one, indent)})`).join(" & ") || "unknown";
  if (schema.type === undefined) return schema.properties ? objectOf(schema, indent) : "unknown";
  return unionOf([schema.type].flat().map((type) => ofType(type, schema, indent)));
}

function ofType(type: string, schema: JsonSchema, indent: string): string {
  if (type === "object") return objectOf(schema, indent);
  if (type !== "array") return PLAIN[type] ?? "unknown";
  if (!Array.isArray(schema.items)) return `Array<${typeOf(schema.items, indent)}>`;
  return `[${schema.items.map((item) => typeOf(item, indent)).join(", ")}]`;
}

function objectOf(schema: JsonSchema, indent: string): string {
  const { properties = {}, required = [], additionalProperties: others = true } = schema;
  const inner = `${indent}  `;
  const lines = Object.entries(properties).flatMap(([name, property]) => {
    const mark = required.includes(name) ? "" : "?";
    return [...wordsOn(property, inner), `${inner}${keyOf(name)}${mark}: ${typeOf(property, inner)};`];
  });
  if (others !== false && lines.length === 0)
    return `Record<string, ${others === true ? "unknown" : typeOf(others, indent)}>`;
  if (others !== false) lines.push(`${inner}[name: string]: unknown;`);
  return lines.length ? `{\n${lines.join("\n")}\n${indent}}` : "{}";
}

function wordsOn(schema: JsonSchema | undefined, indent: string): string[] {
  const { description, title, default: usual } = Object(schema) as JsonSchema;
  const said = [
    description ?? title,
    usual === undefined || usual === null ? "" : `Default: ${JSON.stringify(usual)}.`,
  ];
  const text = said.filter(Boolean).join(" ");
  return text ? [`${indent}/** ${comment(text.replace(/\s+/g, " "))} */`] : [];
}

const comment = (text: string) => text.replaceAll("*/", "*\\/");
const keyOf = (name: string) => (/^[\p{Letter}_$][\p{Letter}\p{Number}_$]*$/u.test(name) ? name : JSON.stringify(name));
const literal = (value: unknown) => (typeof value === "object" && value !== null ? "unknown" : JSON.stringify(value));

function unionOf(types: string[]): string {
  const all = [...new Set(types)];
  return all.includes("unknown") || all.length === 0 ? "unknown" : all.join(" | ");
}
