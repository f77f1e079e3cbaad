// The value of a document that may be broken just now: what the error-tolerant syntax tree can make of it.
import { syntaxTree } from "@codemirror/language";
import type { EditorState } from "@codemirror/state";
import type { SyntaxNode } from "@lezer/common";
import { keyOf, valueOf } from "./pointers";

/** Return the document as a value; unreadable parts are left out. */
export function loose(state: EditorState): unknown {
  return read(state, syntaxTree(state).topNode.firstChild);
}

function read(state: EditorState, node: SyntaxNode | null): unknown {
  if (!node) return undefined;
  if (node.name === "Object") {
    return Object.fromEntries(
      node.getChildren("Property").map((property) => [keyOf(state, property), read(state, valueOf(property))]),
    );
  }
  if (node.name === "Array") {
    const items: unknown[] = [];
    for (let item = node.firstChild; item; item = item.nextSibling) if (!"[],".includes(item.name)) items.push(read(state, item));
    return items;
  }
  try {
    return JSON.parse(state.sliceDoc(node.from, node.to));
  } catch {
    return undefined;
  }
}
