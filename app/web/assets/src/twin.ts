// The same training is here already: what is there, and the choices.
import { ApiError, call, type Problem } from "./api";
import { h, ticks } from "./dom";

export type OnExisting = "resume" | "reuse" | "new";

interface Job {
  id: number;
  name: string;
  state: string;
  progress: { step: number; total_steps: number };
}

/** Whether a submission was refused because of a job that trains the same. */
export function isTwin(problem: Problem | undefined): boolean {
  return problem?.code === "twin-exists";
}

/** Return the job that a refusal is about, or undefined when it cannot be read. */
async function twinOf({ message }: Problem): Promise<Job | undefined> {
  const found = /\bjob (\d+)/i.exec(message);
  if (!found) return undefined;
  try {
    return await call<Job>("GET", `/api/v1/jobs/${found[1]}`);
  } catch (error) {
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}

const CHOICES: [OnExisting, string, string][] = [
  ["reuse", "Reuse it", "Nothing is trained: the job that is there is the answer."],
  ["resume", "Resume it", "Go on from its newest good checkpoint; one that is completed or runs is the answer itself."],
  ["new", "Train anew", "All the same, as a job of its own that takes nothing from it."],
];

/** Return what is there and a button for each choice. */
export async function twinChoices(problem: Problem, choose: (choice: OnExisting) => void): Promise<HTMLElement> {
  const job = await twinOf(problem);
  const items = CHOICES.map(([choice, text, words]) => {
    const button = h("button", { type: "button", class: "button small", "data-choice": choice }, text);
    button.addEventListener("click", () => choose(choice));
    return h("li", {}, button, h("span", { class: "small" }, words));
  });
  const { id, name, state, progress } = job ?? { id: 0, name: "", state: "", progress: { step: 0, total_steps: 0 } };
  const of = progress.total_steps ? ` of ${progress.total_steps.toLocaleString("en")}` : "";
  const where = `, ${state} at step ${progress.step.toLocaleString("en")}${of}`;
  return h(
    "div",
    { class: "twin", role: "alert" },
    h("h3", {}, "The same training is here already"),
    job ? h("p", {}, h("a", { href: `/jobs/${id}` }, `#${id} ${name}`), where) : null,
    h("p", { class: "small" }, ...ticks(problem.message)),
    h("ul", { class: "choices" }, ...items),
  );
}
