// What the server thinks of a config, as elements.
import type { Problem } from "./api";
import { h, ticks } from "./dom";

export interface Resolution {
  config: unknown;
  origins: Record<string, { origin: string; ignored?: string | null }>;
  digest: string;
  seed: number;
  seeds: Record<string, number>;
  total_steps: number;
  warnings: Problem[];
}

export type Check =
  | { kind: "empty" }
  | { kind: "syntax"; message: string; line: number }
  | { kind: "unchecked"; message: string }
  | { kind: "problems"; problems: Problem[] }
  | { kind: "valid"; resolution: Resolution };

type Place = (problem: Problem) => string | undefined;
type Jump = (pointer: string) => void;

/** Return the content of the check panel. `place` gives a problem's pointer within the config, if it is there. */
export function describe(result: Check, place: Place, jump: Jump): HTMLElement[] {
  switch (result.kind) {
    case "empty":
      return [h("p", { class: "muted" }, "Paste an input.json, open a file or load an example. It is checked while you type.")];
    case "syntax":
      return [title("bad", "Not valid JSON yet"), h("p", {}, `Line ${result.line}: ${result.message}`)];
    case "unchecked":
      return [title("warn", "Not checked"), h("p", {}, result.message)];
    case "problems":
      return [title("bad", count(result.problems.length, "problem")), list(result.problems, place, jump)];
    case "valid":
      return valid(result.resolution, place, jump);
  }
}

function title(kind: "good" | "bad" | "warn", text: string): HTMLElement {
  return h("h3", { class: `verdict ${kind}` }, text);
}

function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

function list(problems: Problem[], place: Place, jump: Jump): HTMLElement {
  return h("ul", { class: "problems" }, ...problems.map((problem) => item(problem, place(problem), jump)));
}

function item(problem: Problem, pointer: string | undefined, jump: Jump): HTMLElement {
  const where = pointer === undefined ? elsewhere(problem) : h("button", { type: "button", class: "link pointer" }, pointer || "the document");
  if (pointer !== undefined) where?.addEventListener("click", () => jump(pointer));
  return h("li", {}, where, h("p", {}, ...ticks(problem.message)), problem.hint ? h("p", { class: "hint" }, ...ticks(problem.hint)) : null);
}

/** A problem outside the config: with one of the options, say. */
function elsewhere(problem: Problem): HTMLElement | null {
  return problem.pointer ? h("span", { class: "pointer" }, problem.pointer) : null;
}

function valid(resolution: Resolution, place: Place, jump: Jump): HTMLElement[] {
  const counts = new Map<string, number>();
  for (const { origin } of Object.values(resolution.origins)) counts.set(origin, (counts.get(origin) ?? 0) + 1);
  const badges = [...counts].sort(([, a], [, b]) => b - a).map(([origin, n]) => h("span", { class: `origin origin-${origin}` }, `${n} ${origin}`));
  const warnings = resolution.warnings.length ? [title("warn", count(resolution.warnings.length, "warning")), list(resolution.warnings, place, jump)] : [];
  return [
    title("good", "Ready to submit"),
    h(
      "dl",
      { class: "facts" },
      fact("Steps", resolution.total_steps.toLocaleString("en")),
      fact("Values", h("span", { class: "badges" }, ...badges)),
      fact("Digest", h("code", {}, resolution.digest.slice(0, 12))),
    ),
    ...warnings,
    h("details", {}, h("summary", {}, "Resolved configuration"), h("pre", { class: "json" }, JSON.stringify(resolution.config, null, 2))),
  ];
}

function fact(name: string, value: string | Node): HTMLElement {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}
