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

/** Whether the condition of an if/then holds: one of its alternatives' constants is what the config (or a default) says. */
function applies(condition: Schema, value: Record<string, unknown>, node: Schema): boolean {
  const alternatives = condition.oneOf ?? condition.anyOf ?? [condition];
  return alternatives.some((alternative) =>
    Object.entries(alternative.properties ?? {}).every(
      ([key, wanted]) => wanted.const === undefined || (value[key] ?? node.properties?.[key]?.default) === wanted.const,
    ),
  );
}

/** Return every key that may stand in the object `node` describes, given what the config already says there. */
export function keysOf(node: Schema, value: unknown): Record<string, Schema> {
  const config = isObject(value) ? value : {};
  const keys: Record<string, Schema> = { ...node.properties };
  for (const rule of node.allOf ?? []) {
    if (rule.if && !applies(rule.if, config, node)) continue;
    for (const [key, schema] of Object.entries(keysOf(rule.then ?? (rule.if ? {} : rule), config))) keys[key] ??= schema;
  }
  for (const option of node.anyOf ?? node.oneOf ?? []) {
    for (const [key, schema] of Object.entries(keysOf(option, config))) keys[key] ??= schema;
  }
  return keys;
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
