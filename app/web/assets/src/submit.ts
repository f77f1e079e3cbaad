// The submit page: the editor, the options beside it, and the server's check while typing.
import type { EditorView } from "@codemirror/view";
import { ApiError, call, newKey, type Problem } from "./api";
import { announce } from "./chrome";
import { type Answer, type Check, describe, isWaiting } from "./check";
import { Chips } from "./chips";
import { filterConfig, type Wanted, wanted } from "./configfilter";
import { debounce, need, numbersIn, pageData } from "./dom";
import { inConfig, invite, jump, mark, markSyntax, openEditor, replaceText, syntaxProblems } from "./editor/editor";
import { insertDataset } from "./editor/insert";
import { StartCard, type StartData } from "./start";
import { isTwin, type OnExisting, twinChoices } from "./twin";

interface SubmitData extends StartData {
  config: string;
  examples: Record<string, Record<string, string>>;
  engines: Record<string, EngineWords>;
  /** What it is tested on in the end. */
  testOn: string[];
}

interface EngineWords {
  /** What its config is called as a file. */
  document: string;
  /** What makes a resumed training longer. */
  longer: string;
  /** Its first metric, by which checkpoints can be kept. */
  metric: string;
  /** Whether its models have a fitting net. */
  fits: boolean;
  /** Whether its models can be tested on data. */
  tests: boolean;
}

/** What became of a submission: a job, perhaps the first of a group. */
interface Submitted {
  id: number;
  group: number | null;
}

const PREFIX = "/config";
const DRAFT = "cairn-draft";
/** How long to wait before asking again about what a worker has not finished yet. */
const AGAIN_MS = 2000;
const EMPTY = "Paste a configuration, open a file or load an example. It is checked while you type.";
const EMPTY_WITH_BASE = "Write what changes: what you leave out is inherited. It is checked while you type.";
const INVITATION_WITH_BASE = "How to train, and of the model only what changes.\nThe rest of the model is inherited from the base.";

const page = pageData<SubmitData>("submit-data");
const form = need<HTMLFormElement>("#submit-form");
const panel = need("#check");
const outcome = need("#outcome-place");
const button = need<HTMLButtonElement>("#submit-button");
let asked = 0;
let submitting = false;
let again: number | undefined;
/** What was last looked for in the resolved configuration: it outlives a config that cannot be resolved. */
let lookedFor: Wanted | undefined;
/** The engine of what was last checked: none may be chosen, and then the config tells. */
let told = "";
/** One submission, one key: a double click or a repeated request makes one job. */
let idempotencyKey = newKey();

const view: EditorView = openEditor({
  parent: need("#editor"),
  text: page.config || draft() || "",
  engine,
  onChange: debounce(() => {
    keepDraft(view.state.doc.toString());
    void check();
  }, 450),
  onSubmit: () => void submit(),
});

const start = new StartCard(form, page, () => void check());
const testOn = new Chips(
  {
    list: need("#test-on"),
    input: need<HTMLInputElement>("#test-on-data"),
    button: need("#test-on-add"),
    removal: (data) => `Do not test on ${data}`,
  },
  page.testOn,
  () => void check(),
);

function draft(): string {
  try {
    return localStorage.getItem(DRAFT) ?? "";
  } catch {
    return "";
  }
}

function keepDraft(text: string): void {
  try {
    if (text.trim()) localStorage.setItem(DRAFT, text);
    else localStorage.removeItem(DRAFT);
  } catch {
    // Storage is switched off, or the config is too large for it: nothing is lost but the convenience.
  }
}

function field(name: string): string {
  return String(new FormData(form).get(name) ?? "").trim();
}

function number(name: string): number | undefined {
  const text = field(name);
  return text === "" ? undefined : Number(text);
}

/** Return the engine that is chosen, or that the config is for; before anything was checked the first. */
function engine(): string {
  return field("engine") || told || Object.keys(page.engines)[0]!;
}

function inviteToType(): void {
  const { document: name, longer } = page.engines[engine()]!;
  const words: Record<string, string> = {
    scratch: field("engine") ? `Paste a ${name} here` : `Paste a configuration here: ${documents()}`,
    resume: `Only what changes, for example\n${longer}\nEverything else is inherited from the job.`,
  };
  invite(view, words[start.mode] ?? INVITATION_WITH_BASE);
}

function documents(): string {
  return [...new Set(Object.values(page.engines).map((one) => one.document))].join(" or ");
}

/** Show what belongs to the engine: its examples, the name of its config, its metric. */
function showEngine(): void {
  const chosen = field("engine");
  for (const button of document.querySelectorAll<HTMLElement>(".of-engine")) button.hidden = chosen !== "" && button.dataset["engine"] !== chosen;
  const { document: name, metric, fits, tests } = page.engines[engine()]!;
  need("#document").textContent = chosen || told ? name : "Configuration";
  need<HTMLInputElement>("[name=keep_best]").placeholder = metric;
  need("#fitting-field").hidden = !fits;
  need("#test-on-field").hidden = !tests;
  inviteToType();
}

/**
 * Return the request: only those options that were set, and the config letter by letter as it was typed. Parsed and
 * written again it would lose what JavaScript does not know: 6.0 against 6, large integers, a key that stands twice.
 */
function request(config: string, onExisting?: OnExisting): string {
  const tags = field("tags").split(",").map((tag) => tag.trim()).filter(Boolean);
  const checkpoints = {
    every_steps: number("every_steps"),
    keep_last: number("keep_last"),
    keep_best: field("keep_best") || undefined,
    keep_every: number("keep_every"),
  };
  const options = {
    engine: field("engine") || undefined,
    start: start.value(),
    name: field("name") || undefined,
    seed: number("seed"),
    determinism: field("determinism") || undefined,
    priority: number("priority"),
    checkpoints: Object.values(checkpoints).some((value) => value !== undefined) ? checkpoints : undefined,
    tags: tags.length ? tags : undefined,
    replicas: number("replicas"),
    resources: number("gpus") === undefined ? undefined : { gpus: number("gpus") },
    test_on: page.engines[engine()]!.tests ? testOn.values : undefined,
    test_at: page.engines[engine()]!.tests && field("test_at") ? numbersIn(field("test_at")) : undefined,
    test_every: page.engines[engine()]!.tests ? number("test_every") : undefined,
    on_existing: onExisting,
  };
  const rest = JSON.stringify(options).slice(1, -1);
  return `{"config":${config}${rest && `,${rest}`}}`;
}

/** Return the config's text, or undefined after marking where it is not JSON. */
function typed(): string | undefined {
  const syntax = syntaxProblems(view);
  if (syntax.length) {
    markSyntax(view, syntax);
    const line = view.state.doc.lineAt(syntax[0]!.from);
    show({ kind: "syntax", message: syntax[0]!.message, line: line.number });
    return undefined;
  }
  const text = view.state.doc.toString();
  if (text.trim()) return text;
  markSyntax(view, []);
  show({ kind: "empty", words: start.mode === "scratch" ? EMPTY : EMPTY_WITH_BASE });
  return undefined;
}

function show(result: Check): void {
  const shown = describe(result, {
    place: (problem) => inConfig(problem.pointer, PREFIX),
    jump: (pointer) => jump(view, pointer),
    allow: (key) => start.allow(key),
  });
  panel.replaceChildren(...shown.verdict);
  panel.dataset["kind"] = result.kind;
  button.disabled = submitting || !(result.kind === "valid" || result.kind === "unchecked");
  // Half a word is no reason to take away what is being read, and of a training that is here already all of it holds.
  outcome.classList.toggle("stale", result.kind === "syntax");
  if (result.kind !== "syntax" && result.kind !== "twin") showOutcome(shown.outcome);
  if (result.kind === "valid") announce("The configuration is valid.");
  if (result.kind === "problems") announce(`${result.problems.length} problems in the configuration.`);
}

/** Replace what the config becomes; what is looked for in it, and what was opened, stays. */
function showOutcome(nodes: Node[]): void {
  lookedFor = wanted() ?? lookedFor;
  const open = new Set([...outcome.querySelectorAll<HTMLElement>("details[data-key][open]")].map((one) => one.dataset["key"]));
  const focused = document.activeElement?.id === "config-filter";
  outcome.replaceChildren(...nodes);
  for (const one of outcome.querySelectorAll<HTMLDetailsElement>("details[data-key]")) one.open = open.has(one.dataset["key"]);
  if (!nodes.length) return;
  filterConfig(lookedFor);
  if (focused) need("#config-filter").focus();
}

/** Ask the server about what is typed; an answer that comes too late for the text is dropped. */
async function check(): Promise<void> {
  const ticket = ++asked;
  window.clearTimeout(again);
  const config = typed();
  if (config === undefined) return;
  panel.setAttribute("aria-busy", "true");
  try {
    const answer = await call<Answer>("POST", "/submit/check", request(config));
    if (ticket !== asked) return;
    told = answer.engine;
    showEngine();
    mark(view, [], answer.warnings, PREFIX);
    show({ kind: "valid", answer });
    if (answer.pending) askAgain();
  } catch (error) {
    if (ticket === asked) failed(error);
  } finally {
    if (ticket === asked) panel.removeAttribute("aria-busy");
  }
}

function askAgain(): void {
  again = window.setTimeout(() => void check(), AGAIN_MS);
}

function failed(error: unknown): void {
  if (!(error instanceof ApiError)) throw error;
  mark(view, error.problems, [], PREFIX);
  if (error.status === 0 || error.status >= 500) return show({ kind: "unchecked", message: error.message });
  show({ kind: "problems", problems: error.problems });
  if (isWaiting(error.problems)) askAgain();
}

async function submit(onExisting?: OnExisting): Promise<void> {
  if (submitting || (button.disabled && !onExisting)) return;
  const config = typed();
  if (config === undefined) return;
  submitting = true;
  button.disabled = true;
  try {
    const job = await call<Submitted>("POST", "/api/v1/jobs", request(config, onExisting), { "Idempotency-Key": idempotencyKey });
    keepDraft("");
    location.assign(job.group && (number("replicas") ?? 1) > 1 ? `/groups/${job.group}` : `/jobs/${job.id}`);
  } catch (error) {
    submitting = false;
    // A refused request made no job: what is sent next is another one.
    if (error instanceof ApiError && error.status >= 400 && error.status < 500) idempotencyKey = newKey();
    if (error instanceof ApiError && isTwin(error.problems[0])) await offerTwin(error.problems[0]!);
    else failed(error);
  }
}

/** The same training is here: what then is asked, unless the text has changed meanwhile. */
async function offerTwin(problem: Problem): Promise<void> {
  const ticket = asked;
  const choices = await twinChoices(problem, (choice) => void submit(choice));
  if (ticket !== asked) return;
  show({ kind: "twin", choices });
  choices.scrollIntoView({ block: "nearest" });
}

function pasteProblem(message: string): void {
  const problem: Problem = { code: "dataset", message };
  show({ kind: "problems", problems: [problem] });
}

need<HTMLSelectElement>("#dataset-reference").addEventListener("change", (event) => {
  const select = event.target as HTMLSelectElement;
  if (select.value && !insertDataset(view, select.value)) pasteProblem("The dataset could not be inserted here.");
  select.value = "";
});
for (const load of document.querySelectorAll<HTMLButtonElement>("[data-example]")) {
  load.addEventListener("click", () => {
    replaceText(view, page.examples[load.dataset["engine"] ?? ""]?.[load.dataset["example"] ?? ""] ?? "");
    view.focus();
  });
}
need<HTMLInputElement>("#config-file").addEventListener("change", async (event) => {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  if (file) replaceText(view, await file.text());
  input.value = "";
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  void submit();
});
const checkSoon = debounce(() => void check(), 450);
form.addEventListener("input", (event) => {
  // Looking around in what the config becomes changes nothing of it, nor does what is not added yet.
  if (!(event.target instanceof Element && event.target.closest("#outcome-place, .gather .row"))) checkSoon();
});
for (const mode of form.querySelectorAll("input[name=mode]")) mode.addEventListener("change", inviteToType);
form.querySelector("select[name=engine]")?.addEventListener("change", showEngine);
showEngine();
void check();
