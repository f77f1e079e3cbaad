// Small helpers over the DOM. Text always goes in as text: nothing here parses HTML.

type Child = Node | string | null | undefined;

/** Return a new element with attributes (false and null leave one out) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | number | boolean | null | undefined> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== undefined));
  return element;
}

/** Return text with what stands between backticks as code. */
export function ticks(text: string): Child[] {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return [text];
  return parts.map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** Return the element `selector` names; the page promises that it is there. */
export function need<T extends Element = HTMLElement>(selector: string, within: ParentNode = document): T {
  const found = within.querySelector<T>(selector);
  if (!found) throw new Error(`The page lacks ${selector}`);
  return found;
}

/** Return the JSON a page carries in a `<script type="application/json">`. */
export function pageData<T>(id: string): T {
  return JSON.parse(need(`#${id}`).textContent ?? "null") as T;
}

/** Return a function that runs `action` once, `ms` after the last call. */
export function debounce(action: () => void, ms: number): () => void {
  let timer: number | undefined;
  return () => {
    window.clearTimeout(timer);
    timer = window.setTimeout(action, ms);
  };
}

/** Return a function that runs `action` at once, then at most every `ms`, and never drops the last call. */
export function throttle(action: () => void, ms: number): () => void {
  let last = -Infinity;
  let timer: number | undefined;
  const run = (): void => {
    timer = undefined;
    last = performance.now();
    action();
  };
  return () => {
    if (timer !== undefined) return;
    const wait = last + ms - performance.now();
    if (wait <= 0) run();
    else timer = window.setTimeout(run, wait);
  };
}

/** Return the numbers between commas; what is none stays as it was typed, so that the server can refuse it by its place. */
export function numbersIn(text: string): (number | string)[] {
  return text.split(",").map((word) => word.trim()).filter(Boolean).map((word) => (Number.isNaN(Number(word)) ? word : Number(word)));
}
