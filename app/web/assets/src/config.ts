// The configuration page: narrowing the table down by text and origin.
import { debounce, need } from "./dom";

const table = need<HTMLTableElement>("#config-table");
const filter = need<HTMLInputElement>("#config-filter");
const rows = [...table.tBodies[0]!.rows];

function origins(): Set<string> {
  const boxes = document.querySelectorAll<HTMLInputElement>("input[name=origin]:checked");
  return new Set([...boxes].map((box) => box.value));
}

/** Show the values that match, and the sections that still have something in them. */
function apply(): void {
  const wanted = origins();
  const text = filter.value.trim().toLowerCase();
  let shown = 0;
  let total = 0;
  for (const row of rows) {
    if (row.dataset["pointer"] === undefined) continue;
    total += 1;
    const origin = row.dataset["origin"] ?? "";
    const matches = (origin === "" || wanted.has(origin)) && haystack(row).includes(text);
    row.hidden = !matches;
    if (matches) shown += 1;
  }
  hideEmptySections();
  need("#config-count").textContent = shown === total ? "" : `${shown} of ${total} values`;
}

function haystack(row: HTMLTableRowElement): string {
  return `${row.dataset["pointer"]} ${row.cells[1]?.textContent}`.toLowerCase();
}

/** From the bottom up: a section is shown when a line below it, deeper than itself, is. */
function hideEmptySections(): void {
  const deepest: boolean[] = [];
  for (const row of rows.toReversed()) {
    const depth = Number(row.dataset["depth"]);
    if (row.classList.contains("section")) row.hidden = !deepest[depth + 1];
    deepest.length = depth + 1;
    deepest[depth] = (deepest[depth] ?? false) || !row.hidden;
  }
}

filter.addEventListener("input", debounce(apply, 80));
need(".origin-filter").addEventListener("change", apply);
