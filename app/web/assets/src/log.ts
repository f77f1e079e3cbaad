// The end of a job's log, followed while it grows.
import { ApiError } from "./api";
import { need } from "./dom";
import { CHANGE } from "./live";

const TAIL = 200_000;
const place = need<HTMLElement>("#log");
let attempt = place.dataset["attempt"] ?? "0";
const url = place.dataset["url"] ?? "";
let position = Number(place.dataset["offset"] ?? 0);
/** One for the whole log: a character may be cut in two by a piece's end. */
const decoder = new TextDecoder();
let busy = false;
let again = false;

function atEnd(): boolean {
  return place.scrollHeight - place.scrollTop - place.clientHeight < 24;
}

/** Add text at the end, keep the view at the end if it was there, and forget what is far above. */
function append(text: string): void {
  const follow = atEnd();
  place.append(text);
  const all = place.textContent ?? "";
  if (all.length > TAIL) place.textContent = all.slice(all.indexOf("\n", all.length - TAIL) + 1);
  if (follow) place.scrollTop = place.scrollHeight;
}

async function take(response: Response): Promise<void> {
  const bytes = await response.arrayBuffer();
  position += bytes.byteLength;
  if (bytes.byteLength) append(decoder.decode(bytes, { stream: true }));
  if (position < Number(response.headers.get("X-Log-Size") ?? 0)) again = true;
}

/** A new attempt writes a log of its own. */
function startOver(number: string): void {
  attempt = number;
  position = 0;
  place.textContent = "";
  again = true;
}

async function fetchMore(): Promise<void> {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const response = await fetch(`${url}?offset=${position}`, { credentials: "same-origin" });
    if (!response.ok) throw new ApiError(response.status, []);
    const now = response.headers.get("X-Attempt") ?? attempt;
    if (now === attempt) await take(response);
    else startOver(now);
  } catch {
    // The next change asks again; the mark in the header says when the server does not answer.
  } finally {
    busy = false;
    if (again) {
      again = false;
      void fetchMore();
    }
  }
}

place.scrollTop = place.scrollHeight;
if (url) {
  document.body.addEventListener(CHANGE, () => void fetchMore());
  void fetchMore();
}
