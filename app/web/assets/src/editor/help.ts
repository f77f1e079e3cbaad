// Completion and hover help from the schema.
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";
import { type EditorView, hoverTooltip, type Tooltip } from "@codemirror/view";
import type { SyntaxNode } from "@lezer/common";
import { h } from "../dom";
import { loose } from "./loose";
import { keyOf, pathAt } from "./pointers";
import { at, keysOf, load, requiredOf, type Schema, suggestions, typeWords } from "./schema";

/** Return what stands under the cursor as documentation: types, default, description. */
function card(name: string, schema: Schema): HTMLElement {
  const facts = [typeWords(schema), schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`];
  const words = (schema.description ?? "").replaceAll(/:ref:`([^`<]+?)(?:\s*<[^>]*>)?`/g, "$1").replaceAll("`", "");
  return h(
    "div",
    { class: "schema-card" },
    h("p", {}, h("strong", {}, name), " ", h("span", { class: "muted" }, facts.filter(Boolean).join(" · "))),
    ...words.split(/\n+/).filter((line) => line.trim()).slice(0, 12).map((line) => h("p", {}, line.trim())),
    schema.enum ? h("p", { class: "muted" }, `one of ${schema.enum.map((value) => JSON.stringify(value)).join(", ")}`) : null,
  );
}

function closest(node: SyntaxNode, name: string): SyntaxNode | null {
  for (let at: SyntaxNode | null = node; at; at = at.parent) if (at.name === name) return at;
  return null;
}

/** Whether the cursor stands where a key goes: in a key, or in an object outside any property's value. */
function wantsKey(node: SyntaxNode): boolean {
  const place = "{},⚠".includes(node.name) ? node.parent : node;
  return node.name === "PropertyName" || place?.name === "Object";
}

/** Return a completion source for configs of `engine`. */
export function completions(engine: () => string) {
  return async (context: CompletionContext): Promise<CompletionResult | null> => {
    const { path, node } = pathAt(context.state, context.pos);
    const word = context.matchBefore(/"?[\w.@:/-]*"?/);
    if (!context.explicit && (!word || word.from === word.to)) return null;
    let root: Schema;
    try {
      root = await load(engine());
    } catch {
      return null;
    }
    const config = loose(context.state);
    const from = node.name === "PropertyName" || node.name === "String" ? node.from : (word?.from ?? context.pos);
    const options = wantsKey(node)
      ? keyOptions(root, config, node.name === "PropertyName" ? path.slice(0, -1) : path, context, node)
      : valueOptions(root, config, path);
    const to = node.name === "PropertyName" || node.name === "String" ? node.to : context.pos;
    return options.length ? { from, to, options, validFor: /^"?[\w.-]*"?$/ } : null;
  };
}

function keyOptions(root: Schema, config: unknown, path: string[], context: CompletionContext, node: SyntaxNode): Completion[] {
  const place = at(root, config, path);
  if (!place) return [];
  const object = closest(node, "Object");
  const present = new Set(object?.getChildren("Property").map((property) => keyOf(context.state, property)));
  const bare = node.name !== "PropertyName" || !hasValue(node);
  const required = requiredOf(place.schema, place.value);
  return Object.entries(keysOf(place.schema, place.value))
    .filter(([key]) => !present.has(key))
    .map(([key, schema]) => ({
      label: JSON.stringify(key),
      displayLabel: key,
      type: "property",
      detail: typeWords(schema),
      boost: required.has(key) ? 50 : 0,
      apply: bare ? `${JSON.stringify(key)}: ` : JSON.stringify(key),
      info: () => card(key, schema),
    }));
}

/** Whether a colon follows the key; a key without one is being typed. */
function hasValue(name: SyntaxNode): boolean {
  return name.nextSibling?.name === ":";
}

function valueOptions(root: Schema, config: unknown, path: string[]): Completion[] {
  const place = at(root, config, path);
  if (!place) return [];
  return suggestions(place.schema).map((value) => ({
    label: JSON.stringify(value),
    type: "constant",
    detail: value === place.schema.default ? "default" : "",
  }));
}

/** Return the hover help for configs of `engine`. */
export function hover(engine: () => string) {
  return hoverTooltip(async (view: EditorView, position: number): Promise<Tooltip | null> => {
    const name = closest(syntaxTree(view.state).resolveInner(position), "PropertyName");
    if (!name) return null;
    const { path } = pathAt(view.state, name.to);
    const root = await load(engine()).catch(() => undefined);
    const place = root && at(root, loose(view.state), path);
    if (!place) return null;
    const dom = card(path.at(-1) ?? "", place.schema);
    return { pos: name.from, end: name.to, above: true, create: () => ({ dom }) };
  });
}
