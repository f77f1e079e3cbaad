// A base model's page: the filter of its tensors.
import { debounce, need } from "./dom";

/** Show the tensors whose line contains the text. */
function apply(): void {
  const text = need<HTMLInputElement>("#tensor-filter").value.trim().toLowerCase();
  const rows = [...need<HTMLTableElement>("#tensor-table").tBodies[0]!.rows];
  for (const row of rows) row.hidden = !haystack(row).includes(text);
  const shown = rows.filter((row) => !row.hidden).length;
  need("#tensor-count").textContent = shown === rows.length ? `${shown}` : `${shown} of ${rows.length}`;
}

/** A tensor is also found by its other names, which only a title tells. */
function haystack(row: HTMLTableRowElement): string {
  const aliases = row.querySelector<HTMLElement>("[title^=The]")?.title ?? "";
  return `${row.textContent} ${aliases}`.toLowerCase();
}

// The table appears when the inspection has ended: the document listens for it.
const later = debounce(apply, 80);
document.addEventListener("input", (event) => {
  if (event.target instanceof HTMLElement && event.target.id === "tensor-filter") later();
});
