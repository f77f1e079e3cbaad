// What the server thinks of a config, as elements.
import type { Problem } from "./api";
import { h, need, ticks } from "./dom";

/** The server's answer to a config that is valid: its warnings, and the HTML that shows what it becomes. */
export interface Answer {
  html: string;
  warnings: Problem[];
  pending: boolean;
  /** Which it is for. */
  engine: string;
}

export type Check =
  | { kind: "empty"; words: string }
  | { kind: "syntax"; message: string; line: number }
  | { kind: "unchecked"; message: string }
  | { kind: "problems"; problems: Problem[] }
  | { kind: "twin"; choices: HTMLElement }
  | { kind: "valid"; answer: Answer };

/** The two places of the page that a check fills. */
export interface Shown {
  verdict: Node[];
  outcome: Node[];
}

/** What can be done about a problem: go to its place in the config, or allow the key that stands in the way. */
export interface Remedies {
  place: (problem: Problem) => string | undefined;
  jump: (pointer: string) => void;
  allow: (key: string) => void;
}

/** Return what to show of a check. */
export function describe(result: Check, remedies: Remedies): Shown {
  switch (result.kind) {
    case "empty":
      return only(h("p", { class: "muted" }, result.words));
    case "syntax":
      return only(title("bad", "Not valid JSON yet"), h("p", {}, `Line ${result.line}: ${result.message}`));
    case "unchecked":
      return only(title("warn", "Not checked"), h("p", {}, result.message));
    case "problems":
      return problems(result.problems, remedies);
    case "twin":
      return only(result.choices);
    case "valid":
      return valid(result.answer, remedies);
  }
}

function only(...verdict: Node[]): Shown {
  return { verdict, outcome: [] };
}

/** Whether a refusal will change by itself: the base is being inspected just now. */
export function isWaiting(problems: Problem[]): boolean {
  return problems.length === 1 && problems[0]!.code === "base-not-ready";
}

function problems(found: Problem[], remedies: Remedies): Shown {
  if (!isWaiting(found)) return only(title("bad", count(found.length, "problem")), list(found, remedies));
  const words = h("p", { class: "pending" }, h("span", { class: "spinner", "aria-hidden": "true" }), found[0]!.message);
  return only(title("warn", "Not ready yet"), words);
}

function title(kind: "good" | "bad" | "warn", text: string): HTMLElement {
  return h("h3", { class: `verdict ${kind}` }, text);
}

function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function list(found: Problem[], remedies: Remedies): HTMLElement {
  return h("ul", { class: "problems" }, ...found.map((problem) => item(problem, remedies)));
}

function item(problem: Problem, remedies: Remedies): HTMLElement {
  const pointer = remedies.place(problem);
  const where = pointer === undefined ? elsewhere(problem) : h("button", { type: "button", class: "link pointer" }, pointer || "the document");
  if (pointer !== undefined) where?.addEventListener("click", () => remedies.jump(pointer));
  const hint = problem.hint ? h("p", { class: "hint" }, ...ticks(problem.hint)) : null;
  return h("li", {}, where, h("p", {}, ...ticks(problem.message)), hint, ...allowing(problem, remedies));
}

/** A problem outside the config: with one of the options, say. */
function elsewhere(problem: Problem): HTMLElement | null {
  return problem.pointer ? h("span", { class: "pointer" }, problem.pointer) : null;
}

/** Return a button for each key that would have to be allowed. */
function allowing(problem: Problem, remedies: Remedies): HTMLElement[] {
  return (problem.allow ?? []).map((key) => {
    const button = h("button", { type: "button", class: "button small" }, "Allow ", h("code", {}, key));
    button.addEventListener("click", () => remedies.allow(key));
    return button;
  });
}

function valid(answer: Answer, remedies: Remedies): Shown {
  const page = new DOMParser().parseFromString(answer.html, "text/html");
  const warnings = answer.warnings.length ? [title("warn", count(answer.warnings.length, "warning")), list(answer.warnings, remedies)] : [];
  return {
    verdict: [...need("#verdict", page).childNodes, ...warnings],
    outcome: [...need("#outcome", page).childNodes],
  };
}
