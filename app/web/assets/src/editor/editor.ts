// The JSON editor: CodeMirror with syntax, schema help, and the server's problems at their place.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { json, jsonParseLinter } from "@codemirror/lang-json";
import { bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightActiveLineGutter, highlightSpecialChars, keymap, lineNumbers, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Problem } from "../api";
import { completions, hover } from "./help";
import { locate } from "./pointers";

const colours = HighlightStyle.define([
  { tag: tags.propertyName, color: "var(--syntax-key)" },
  { tag: tags.string, color: "var(--syntax-string)" },
  { tag: tags.number, color: "var(--syntax-number)" },
  { tag: [tags.bool, tags.null], color: "var(--syntax-constant)" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

const invitation = new Compartment();

export interface EditorOptions {
  parent: HTMLElement;
  text: string;
  engine: () => string;
  onChange: () => void;
  onSubmit: () => void;
}

/** Open an editor. Styles it adds carry the page's nonce, so that the content security policy lets them in. */
export function openEditor(options: EditorOptions): EditorView {
  const nonce = document.querySelector<HTMLMetaElement>('meta[name="style-nonce"]')?.content ?? "";
  const state = EditorState.create({
    doc: options.text,
    extensions: [
      EditorView.cspNonce.of(nonce),
      lineNumbers(), highlightActiveLineGutter(), highlightSpecialChars(), history(), foldGutter(), drawSelection(),
      indentOnInput(), syntaxHighlighting(colours), bracketMatching(), closeBrackets(), highlightActiveLine(),
      highlightSelectionMatches(), json(), lintGutter(),
      invitation.of([]),
      autocompletion({ override: [completions(options.engine)], icons: false }),
      hover(options.engine),
      keymap.of([
        { key: "Mod-Enter", run: () => (options.onSubmit(), true) },
        ...closeBracketsKeymap, ...defaultKeymap, ...searchKeymap, ...historyKeymap, ...foldKeymap, ...completionKeymap, ...lintKeymap,
      ]),
      EditorView.contentAttributes.of({ "aria-label": "Configuration as JSON. Press Escape, then Tab, to leave." }),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) options.onChange();
      }),
    ],
  });
  return new EditorView({ state, parent: options.parent });
}

/** Say what to write, as long as nothing is written. */
export function invite(view: EditorView, words: string): void {
  view.dispatch({ effects: invitation.reconfigure(placeholder(words)) });
}

/** Replace the whole text, as one step that undo takes back. */
export function replaceText(view: EditorView, text: string): void {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
}

/** Return what is wrong with the document as JSON, or nothing. */
export function syntaxProblems(view: EditorView): Diagnostic[] {
  return view.state.doc.toString().trim() ? jsonParseLinter()(view) : [];
}

/** Mark problems at the places their pointers name. `prefix` is the pointer of the config within what was sent. */
export function mark(view: EditorView, problems: Problem[], warnings: Problem[], prefix: string): void {
  const diagnostics = [
    ...problems.map((problem) => diagnostic(view, problem, prefix, "error")),
    ...warnings.map((warning) => diagnostic(view, warning, prefix, "warning")),
  ].filter((one) => one !== undefined);
  view.dispatch(setDiagnostics(view.state, diagnostics));
}

/** Mark diagnostics found here. */
export function markSyntax(view: EditorView, diagnostics: Diagnostic[]): void {
  view.dispatch(setDiagnostics(view.state, diagnostics));
}

function diagnostic(view: EditorView, problem: Problem, prefix: string, severity: "error" | "warning"): Diagnostic | undefined {
  const pointer = inConfig(problem.pointer, prefix);
  if (pointer === undefined) return undefined;
  const message = problem.hint ? `${problem.message}\n${problem.hint}` : problem.message;
  return { ...locate(view.state, pointer), severity, message };
}

/** Return the pointer within the config, or undefined for a problem elsewhere (a bad name, say). */
export function inConfig(pointer: string | null | undefined, prefix: string): string | undefined {
  if (pointer === null || pointer === undefined) return undefined;
  if (pointer === prefix || pointer.startsWith(`${prefix}/`)) return pointer.slice(prefix.length);
  return prefix ? undefined : pointer;
}

/** Put the cursor at a pointer. */
export function jump(view: EditorView, pointer: string): void {
  const { from, to } = locate(view.state, pointer);
  view.dispatch({ selection: { anchor: from, head: to }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
  view.focus();
}
