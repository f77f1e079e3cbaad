// Inserting a dataset reference where it belongs.
import { syntaxTree } from "@codemirror/language";
import type { EditorView } from "@codemirror/view";
import { pathAt } from "./pointers";

/**
 * Insert a reference at the cursor: as a further entry when the cursor is in a list, in place of a string it stands in,
 * else as a bare string. Return whether it was inserted.
 */
export function insertDataset(view: EditorView, reference: string): boolean {
  const { state } = view;
  const at = state.selection.main.head;
  const text = JSON.stringify(reference);
  const { node } = pathAt(state, at);
  if (node.name === "String" && node.from < at && at < node.to) return replace(view, node.from, node.to, text);
  const list = node.name === "Array" ? node : node.parent?.name === "Array" ? node.parent : null;
  if (!list) return replace(view, state.selection.main.from, state.selection.main.to, text);
  const before = state.sliceDoc(list.from + 1, at).trim();
  const after = state.sliceDoc(at, Math.max(at, list.to - 1)).trim();
  const comma = before && !before.endsWith(",") ? ", " : "";
  return replace(view, at, at, comma + text + (after && !after.startsWith(",") ? ", " : ""));
}

function replace(view: EditorView, from: number, to: number, insert: string): boolean {
  view.dispatch({ changes: { from, to, insert }, selection: { anchor: from + insert.length } });
  view.focus();
  return syntaxTree(view.state).length > 0;
}
