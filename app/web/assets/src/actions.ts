// Forms that ask the REST API: `data-call="POST /api/v1/jobs/17/pause"`. What comes of it is said, and a refusal is shown with its reason.
// Their fields are the body, on top of what `data-body` says: numbers as numbers, `data-list` and `data-numbers` as lists, `config.data` inside
// `config`, empty ones left out; with `data-changed-only` only those that somebody changed. A button's own name and value (as
// JSON) go along. `data-page` leads to what was made: `/jobs/` and its id.
import { ApiError, call, newKey, type Problem } from "./api";
import { announce } from "./chrome";
import { h, need, numbersIn, ticks } from "./dom";
import { CHANGE } from "./live";
import { isTwin, twinChoices } from "./twin";

/** What an answer may say besides that it was done. */
interface Answer {
  id?: number;
  /** Why nothing became of some of the jobs of a group. */
  unchanged?: Record<string, string>;
}

type Field = HTMLInputElement | HTMLSelectElement;

function fields(form: HTMLFormElement): Field[] {
  return [...form.querySelectorAll<Field>("input[name], select[name]")];
}

function isChanged(field: Field): boolean {
  return !(field instanceof HTMLInputElement) || field.value !== field.defaultValue;
}

function valueOf(field: Field): unknown {
  if (field.hasAttribute("data-list")) return field.value.split(",").map((word) => word.trim()).filter(Boolean);
  if (field.hasAttribute("data-numbers")) return numbersIn(field.value);
  if (field.value === "") return undefined;
  return field instanceof HTMLInputElement && field.type === "number" ? Number(field.value) : field.value.trim();
}

type Body = Record<string, unknown>;

/** Put a value where its name says: `config.data` is `data` of `config`. */
function put(body: Body, name: string, value: unknown): void {
  const [first = "", ...rest] = name.split(".");
  if (rest.length) put((body[first] ??= {}) as Body, rest.join("."), value);
  else body[first] = value;
}

function bodyOf(form: HTMLFormElement, button: HTMLElement | null): Body {
  const body = JSON.parse(form.dataset["body"] ?? "{}") as Body;
  for (const field of fields(form)) {
    if (!form.hasAttribute("data-changed-only") || isChanged(field)) put(body, field.name, valueOf(field));
  }
  if (button instanceof HTMLButtonElement && button.name) put(body, button.name, JSON.parse(button.value));
  return body;
}

function inWords({ message, hint }: Problem): (HTMLElement | null)[] {
  return [h("p", {}, ...ticks(message)), hint ? h("p", { class: "hint" }, ...ticks(hint)) : null];
}

/** Show problems at the top of the page; none empties the place. */
function showOnPage(problems: Problem[]): void {
  const place = need("#refusal");
  place.replaceChildren(...problems.map((problem) => h("div", { class: "note bad" }, ...inWords(problem))));
  if (problems.length) place.scrollIntoView({ block: "nearest" });
}

/** Show problems in the form's own place, or else at the top of the page. */
function show(form: HTMLFormElement, problems: Problem[]): void {
  const own = form.querySelector<HTMLElement>("[data-problems]");
  if (!own) return showOnPage(problems);
  own.replaceChildren(...problems.map((problem) => h("li", {}, ...inWords(problem))));
  own.hidden = problems.length === 0;
}

/** Not kept in the document: bringing the page up to date would take from a form what the server did not write. */
const keys = new WeakMap<HTMLFormElement, string>();

/** What makes something is asked under one key until it is answered: a broken connection does not make two of it. */
function keyOf(form: HTMLFormElement): Record<string, string> {
  if (!form.dataset["page"]) return {};
  const key = keys.get(form) ?? newKey();
  keys.set(form, key);
  return { "Idempotency-Key": key };
}

/** Show what is there already, and ask again with what is chosen. */
async function showTwin(form: HTMLFormElement, problem: Problem): Promise<void> {
  const choices = await twinChoices(problem, (choice) => void ask(form, null, { on_existing: choice }));
  const own = form.querySelector<HTMLElement>("[data-problems]");
  (own ?? need("#refusal")).replaceChildren(own ? h("li", {}, choices) : choices);
  if (own) own.hidden = false;
}

async function send(form: HTMLFormElement, button: HTMLElement | null, chosen: Body): Promise<void> {
  const [method = "POST", path = ""] = (form.dataset["call"] ?? "").split(" ");
  const answer = await call<Answer | undefined>(method, path, { ...bodyOf(form, button), ...chosen }, keyOf(form));
  show(form, []);
  showOnPage([]);
  const page = form.dataset["page"];
  if (page) return location.assign(`${page}${answer?.id}`);
  const dialog = form.closest("dialog");
  dialog?.close();
  if (dialog) for (const field of fields(form)) if (field instanceof HTMLInputElement) field.defaultValue = field.value;
  const unchanged = Object.values(answer?.unchanged ?? {});
  if (unchanged.length) need("#refusal").replaceChildren(h("div", { class: "note" }, `Unchanged: ${unchanged.join("; ")}.`));
  announce(form.dataset["said"] || "Done.");
  document.body.dispatchEvent(new CustomEvent(CHANGE));
}

async function ask(form: HTMLFormElement, button: HTMLElement | null, chosen: Body = {}): Promise<void> {
  if (form.hasAttribute("aria-busy")) return;
  form.setAttribute("aria-busy", "true");
  try {
    await send(form, button, chosen);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status) keys.delete(form);
    const [problem] = error.problems;
    if (problem && isTwin(problem)) await showTwin(form, problem);
    else show(form, error.problems);
  } finally {
    form.removeAttribute("aria-busy");
  }
}

async function onSubmit(event: SubmitEvent): Promise<void> {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || !form.dataset["call"]) return;
  event.preventDefault();
  await ask(form, event.submitter);
}

/** Let every such form of the page, now and whatever is swapped in, ask the API. */
export function startActions(): void {
  document.addEventListener("submit", (event) => void onSubmit(event));
}
