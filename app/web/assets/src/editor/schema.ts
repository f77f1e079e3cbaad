// What the engine's JSON schema says about a place of a config, with variants (`type`) chosen by the config itself.
import { call } from "../api";

export interface Schema {
  description?: string;
  type?: string | string[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  additionalProperties?: boolean | Schema;
  allOf?: Schema[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  if?: Schema;
  then?: Schema;
  else?: Schema;
}

const loading = new Map<string, Promise<Schema>>();

/** Return an engine's schema, fetched once per page and only when it is first needed: it is big. */
export function load(engine: string): Promise<Schema> {
  const known = loading.get(engine) ?? call<Schema>("GET", `/api/v1/engines/${encodeURIComponent(engine)}/schema`);
  loading.set(engine, known);
  known.catch(() => loading.delete(engine));
  return known;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value satisfies a condition, as far as conditions of editors' schemas go: constants, required keys, alternatives. */
function matches(condition: Schema, value: unknown): boolean {
  if (condition.const !== undefined && value !== condition.const) return false;
  if (condition.enum && !condition.enum.includes(value)) return false;
  if (condition.required?.length && !isObject(value)) return false;
  if (isObject(value)) {
    if (condition.required?.some((key) => !(key in value))) return false;
    for (const [key, wanted] of Object.entries(condition.properties ?? {})) if (key in value && !matches(wanted, value[key])) return false;
  }
  const alternatives = condition.oneOf ?? condition.anyOf;
  return (!alternatives || alternatives.some((one) => matches(one, value))) && (condition.allOf ?? []).every((one) => matches(one, value));
}

/** Return an object with the defaults of the keys it lacks: a variant may be chosen by default. */
function withDefaults(node: Schema, value: unknown): Record<string, unknown> {
  const filled: Record<string, unknown> = {};
  for (const [key, schema] of Object.entries(node.properties ?? {})) if (schema.default !== undefined) filled[key] = schema.default;
  return isObject(value) ? { ...filled, ...value } : filled;
}

/** Return a schema and those within it that apply to the value: of a condition, the branch it takes. */
function applying(node: Schema, value: Record<string, unknown>): Schema[] {
  const inner = [...(node.allOf ?? []), ...(node.anyOf ?? []), ...(node.oneOf ?? [])];
  const branch = node.if && (matches(node.if, value) ? node.then : node.else);
  return [node, ...(branch ? [branch] : []).concat(inner).flatMap((one) => applying(one, value))];
}

/** Return every key that may stand in the object `node` describes, given what the config already says there. */
export function keysOf(node: Schema, value: unknown): Record<string, Schema> {
  const keys: Record<string, Schema> = {};
  for (const schema of applying(node, withDefaults(node, value))) {
    for (const [key, one] of Object.entries(schema.properties ?? {})) keys[key] = { ...one, ...keys[key] };
  }
  return keys;
}

/** Return the keys that must stand there. */
export function requiredOf(node: Schema, value: unknown): Set<string> {
  return new Set(applying(node, withDefaults(node, value)).flatMap((schema) => schema.required ?? []));
}

/** Return the schema of the place `path` leads to, or undefined where the schema knows nothing. */
export function at(root: Schema, config: unknown, path: string[]): { schema: Schema; value: unknown } | undefined {
  let schema: Schema = root;
  let value: unknown = config;
  for (const part of path) {
    if (part === "*") {
      if (!schema.items) return undefined;
      schema = schema.items;
      value = undefined;
      continue;
    }
    const open = isObject(schema.additionalProperties) ? (schema.additionalProperties as Schema) : undefined;
    const next: Schema | undefined = keysOf(schema, value)[part] ?? open;
    if (!next) return undefined;
    schema = next;
    value = isObject(value) ? value[part] : undefined;
  }
  return { schema, value };
}

/** Return the types a schema allows, in words. */
export function typeWords(schema: Schema): string {
  const types = Array.isArray(schema.type) ? schema.type : schema.type ? [schema.type] : [];
  return types.join(" or ");
}

/** Return values worth offering for a place: its enumeration, true and false, the default. */
export function suggestions(schema: Schema): unknown[] {
  if (schema.enum) return schema.enum;
  if (typeWords(schema).includes("boolean")) return [true, false];
  return schema.default === undefined ? [] : [schema.default];
}
