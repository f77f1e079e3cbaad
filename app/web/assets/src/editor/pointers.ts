// JSON pointers and places in the text, over CodeMirror's syntax tree.
import { syntaxTree } from "@codemirror/language";
import type { EditorState } from "@codemirror/state";
import type { SyntaxNode } from "@lezer/common";

/** Return the segments of a JSON pointer. */
export function segments(pointer: string): string[] {
  return pointer
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** Return the key of a Property node. */
export function keyOf(state: EditorState, property: SyntaxNode): string {
  const name = property.getChild("PropertyName");
  if (!name) return "";
  const text = state.sliceDoc(name.from, name.to);
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.replaceAll('"', "");
  }
}

/** Return the value node of a Property, if it has one yet. */
export function valueOf(property: SyntaxNode): SyntaxNode | null {
  const last = property.lastChild;
  return last && last.name !== "PropertyName" && last.name !== ":" ? last : null;
}

function child(state: EditorState, node: SyntaxNode, part: string): SyntaxNode | null {
  if (node.name === "Object") return node.getChildren("Property").find((property) => keyOf(state, property) === part) ?? null;
  if (node.name !== "Array") return null;
  const items: SyntaxNode[] = [];
  for (let item = node.firstChild; item; item = item.nextSibling) if (!"[],".includes(item.name)) items.push(item);
  return items[Number(part)] ?? null;
}

/**
 * Return where the thing at `pointer` stands: its key and value. When it is not there (a missing key, say), the key of
 * the closest parent that is.
 */
export function locate(state: EditorState, pointer: string): { from: number; to: number } {
  let node = syntaxTree(state).topNode.firstChild;
  let found: SyntaxNode | null = null;
  for (const part of segments(pointer)) {
    const inner: SyntaxNode | null = node?.name === "Property" ? valueOf(node) : node;
    const next: SyntaxNode | null = inner && child(state, inner, part);
    if (!next) return keyRange(found) ?? { from: 0, to: Math.min(1, state.doc.length) };
    found = node = next;
  }
  return range(found) ?? { from: 0, to: Math.min(1, state.doc.length) };
}

function range(node: SyntaxNode | null): { from: number; to: number } | undefined {
  if (!node) return undefined;
  const value = node.name === "Property" ? valueOf(node) : node;
  if (value && (value.name === "Object" || value.name === "Array") && node.name === "Property") return keyRange(node);
  return { from: node.from, to: node.to };
}

function keyRange(node: SyntaxNode | null): { from: number; to: number } | undefined {
  const name = node?.getChild("PropertyName") ?? node;
  return name ? { from: name.from, to: name.to } : undefined;
}

/** Return the path of keys from the root to `position`, array places left out as `*`. */
export function pathAt(state: EditorState, position: number): { path: string[]; node: SyntaxNode } {
  const node = syntaxTree(state).resolveInner(position, -1);
  const path: string[] = [];
  for (let at: SyntaxNode | null = node; at; at = at.parent) {
    if (at.name === "Property") path.unshift(keyOf(state, at));
    else if (at.name === "Array" && at !== node) path.unshift("*");
  }
  return { path, node };
}
