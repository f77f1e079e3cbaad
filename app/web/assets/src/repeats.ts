// How far two runs are identical, followed while they go on: every `data-follow` names a comparison.
import { announce } from "./chrome";
import { h } from "./dom";
import { headline } from "./format";

interface Side {
  state: string;
}

interface Comparison {
  verdict: string;
  summary: string;
  left: Side;
  right: Side;
}

interface Known {
  tag: string;
  found: Comparison;
}

/** Fired on the body when the verdict is another than the one that the page around it was made for (`data-verdict`). */
const VERDICT = "cairn:verdict";
const EVERY_MS = 3000;
const FINAL = ["completed", "failed", "cancelled"];

/** What was answered, by address. */
const known = new Map<string, Known>();
let busy = false;

/** A difference stays, and of what has ended nothing changes. */
function isDecided({ verdict, left, right }: Comparison): boolean {
  return verdict === "identical" || verdict === "diverged" || (FINAL.includes(left.state) && FINAL.includes(right.state));
}

/** Write a verdict where it is followed. */
function show(place: HTMLElement, { verdict, summary }: Comparison): void {
  const [head, more] = headline(summary);
  place.querySelector(".repeat")?.replaceWith(h("span", { class: `repeat repeat-${verdict}` }, head));
  const particulars = place.querySelector(".particulars");
  if (particulars) particulars.textContent = more;
}

async function ask(address: string): Promise<void> {
  const before = known.get(address);
  const headers: Record<string, string> = { Accept: "application/json" };
  if (before) headers["If-None-Match"] = before.tag;
  const response = await fetch(address, { credentials: "same-origin", cache: "no-store", headers });
  if (!response.ok) return; // 304: neither has changed
  const found = (await response.json()) as Comparison;
  known.set(address, { tag: response.headers.get("ETag") ?? "", found });
  if (before && before.found.verdict !== found.verdict) announce(headline(found.summary)[0]);
}

function places(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>("[data-follow]")];
}

function answerFor(place: HTMLElement): Comparison | undefined {
  return known.get(place.dataset["follow"] ?? "")?.found;
}

/** What stands around a place was made for one verdict: with another, the page has to be brought up to date. */
function isOutdated(place: HTMLElement): boolean {
  const verdict = place.dataset["verdict"];
  return verdict !== undefined && answerFor(place) !== undefined && answerFor(place)?.verdict !== verdict;
}

/** Show what is known; after a refresh the page has forgotten it. */
function showKnown(): void {
  for (const place of places()) {
    const found = answerFor(place);
    if (found && !isOutdated(place)) show(place, found);
  }
}

/** Ask about one pair after the other, so that a long list is no burden. */
async function round(): Promise<void> {
  if (busy || document.hidden) return;
  busy = true;
  try {
    for (const address of new Set(places().map((place) => place.dataset["follow"] ?? ""))) {
      const answer = known.get(address);
      if (!answer || !isDecided(answer.found)) await ask(address);
    }
  } catch {
    // The server does not answer: the next round asks again.
  } finally {
    busy = false;
    showKnown();
    if (places().some(isOutdated)) document.body.dispatchEvent(new CustomEvent(VERDICT));
  }
}

/** Follow every comparison on the page, now and whatever is swapped in. */
export function startFollowing(): void {
  document.addEventListener("htmx:after:swap", showKnown);
  document.addEventListener("visibilitychange", () => void round());
  window.setInterval(() => void round(), EVERY_MS);
  void round();
}
