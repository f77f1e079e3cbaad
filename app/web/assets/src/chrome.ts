// What every page has: theme switch, times that age, copy buttons, keyboard shortcuts, dialogs.
import { ago, duration } from "./format";
import { need } from "./dom";

/** Switch between light and dark, remember it, and tell the charts. */
function switchTheme(): void {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const current = root.dataset["theme"] ?? (dark ? "dark" : "light");
  const next = current === "dark" ? "light" : "dark";
  root.dataset["theme"] = next;
  try {
    localStorage.setItem("cairn-theme", next);
  } catch {
    // Storage is switched off: the choice lasts for this page.
  }
  document.dispatchEvent(new CustomEvent("cairn:theme"));
}

/** Bring every relative time on the page up to date. */
export function tick(): void {
  const now = Date.now();
  for (const element of document.querySelectorAll<HTMLTimeElement>("time[data-ago]")) {
    write(element, ago((now - Date.parse(element.dateTime)) / 1000));
  }
  for (const element of document.querySelectorAll<HTMLTimeElement>("time[data-since]")) {
    write(element, duration((now - Date.parse(element.dateTime)) / 1000));
  }
}

function write(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Say something to people who cannot see the change. */
export function announce(text: string): void {
  need("#announcer").textContent = text;
}

async function copy(button: HTMLElement): Promise<void> {
  const source = button.dataset["copyFrom"];
  const text = source ? need(source).textContent : button.dataset["copy"];
  let done = true;
  try {
    await navigator.clipboard.writeText(text ?? "");
  } catch {
    done = copyTheOldWay(text ?? "");
  }
  button.dataset["done"] = done ? "copied" : "press Ctrl-C";
  announce(done ? "Copied" : "Copying is not allowed here");
  window.setTimeout(() => delete button.dataset["done"], 1600);
}

/** The clipboard API exists on https and localhost only; a dashboard in a lab's network is often neither. */
function copyTheOldWay(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function onClick(event: MouseEvent): void {
  const target = event.target instanceof Element ? event.target : null;
  const button = target?.closest<HTMLElement>("[data-copy],[data-copy-from],[data-open],[data-close],[data-theme-switch]");
  for (const open of document.querySelectorAll<HTMLDetailsElement>("details[data-popover][open]")) {
    if (!open.contains(target)) open.open = false;
  }
  if (!button) return;
  if (button.matches("[data-theme-switch]")) switchTheme();
  else if (button.dataset["open"]) need<HTMLDialogElement>(button.dataset["open"]).showModal();
  else if (button.matches("[data-close]")) button.closest("dialog")?.close();
  else void copy(button);
}

const GO: Record<string, string> = { j: "/jobs", r: "/groups", s: "/submit", d: "/datasets", m: "/models", w: "/workers" };
let waitingForGo = 0;

/** `g j` and friends, `/` for the filter, `?` for help; never while someone types. */
function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = event.target instanceof HTMLElement ? event.target : document.body;
  if (event.key === "Escape") closePopovers();
  if (target.isContentEditable || target.matches("input:not([type=checkbox]), textarea, select")) return;
  const destination = performance.now() - waitingForGo < 1200 ? GO[event.key] : undefined;
  waitingForGo = event.key === "g" ? performance.now() : 0;
  if (destination) location.assign(destination);
  else if (event.key === "/") focusFilter(event);
  else if (event.key === "?") need<HTMLDialogElement>("#shortcuts").showModal();
  else if (event.key === "t") switchTheme();
}

function focusFilter(event: KeyboardEvent): void {
  const field = document.querySelector<HTMLInputElement>("[data-filter]");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
}

function closePopovers(): void {
  for (const open of document.querySelectorAll<HTMLDetailsElement>("details[data-popover][open]")) {
    open.open = false;
    open.querySelector("summary")?.focus();
  }
}

/** Start all of it. */
export function startChrome(): void {
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("htmx:after:swap", tick);
  tick();
  window.setInterval(tick, 5000);
}
