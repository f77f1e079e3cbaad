// Narrowing the table of a resolved configuration down by text and origin.
import { debounce, need } from "./dom";

/** What somebody looks for in a configuration. */
export interface Wanted {
  text: string;
  hidden: string[];
}

/** Bring the filter on the page to life, beginning with what was looked for before. */
export function filterConfig(before?: Wanted): void {
  const field = need<HTMLInputElement>("#config-filter");
  const origins = need(".origin-filter");
  if (before) {
    field.value = before.text;
    for (const box of boxes()) box.checked = !before.hidden.includes(box.value);
  }
  field.addEventListener("input", debounce(apply, 80));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault(); // it stands in the form that submits a job
  });
  origins.addEventListener("change", apply);
  apply();
}

/** Return what is looked for, or nothing while there is no filter on the page. */
export function wanted(): Wanted | undefined {
  const field = document.querySelector<HTMLInputElement>("#config-filter");
  return field ? { text: field.value, hidden: boxes().filter((box) => !box.checked).map((box) => box.value) } : undefined;
}

function boxes(): HTMLInputElement[] {
  return [...document.querySelectorAll<HTMLInputElement>(".origin-filter input")];
}

/** Show the values that match, and the sections that still have something in them. */
function apply(): void {
  const rows = [...need<HTMLTableElement>("#config-table").tBodies[0]!.rows];
  const origins = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  const text = need<HTMLInputElement>("#config-filter").value.trim().toLowerCase();
  const values = rows.filter((row) => row.dataset["pointer"] !== undefined);
  for (const row of values) {
    const origin = row.dataset["origin"] ?? "";
    row.hidden = !((origin === "" || origins.has(origin)) && haystack(row).includes(text));
  }
  hideEmptySections(rows);
  const shown = values.filter((row) => !row.hidden).length;
  need("#config-count").textContent = shown === values.length ? "" : `${shown} of ${values.length} values`;
}

function haystack(row: HTMLTableRowElement): string {
  return `${row.dataset["pointer"]} ${row.cells[1]?.textContent}`.toLowerCase();
}

/** From the bottom up: a section is shown when a line below it, deeper than itself, is. */
function hideEmptySections(rows: HTMLTableRowElement[]): void {
  const deepest: boolean[] = [];
  for (const row of rows.toReversed()) {
    const depth = Number(row.dataset["depth"]);
    if (row.classList.contains("section")) row.hidden = !deepest[depth + 1];
    deepest.length = depth + 1;
    deepest[depth] = (deepest[depth] ?? false) || !row.hidden;
  }
}
