// The list of jobs: choosing the two to compare.
import { need } from "./dom";

/** Say how many are chosen, and let nobody compare any but two. */
function count(): void {
  const button = document.querySelector<HTMLButtonElement>("#compare-button");
  if (!button) return;
  const chosen = document.querySelectorAll("input[name=job]:checked").length;
  button.disabled = chosen !== 2;
  need("#chosen").textContent =
    chosen === 2 ? "Two jobs chosen." : chosen > 2 ? `${chosen} jobs chosen; two can be compared.` : "Choose two jobs to compare.";
}

document.addEventListener("change", count);
document.addEventListener("htmx:after:swap", count);
count();
