// The event stream: one connection while the page is visible, turned into events that htmx and the charts listen to.
import { throttle } from "./dom";

/** Fired on the body when something the page shows has changed. */
export const CHANGE = "cairn:change";

const { job, version } = document.body.dataset;
const signal = throttle(() => document.body.dispatchEvent(new CustomEvent(CHANGE)), 900);
let source: EventSource | undefined;
let lost = 0;

function connect(): void {
  if (source || document.hidden) return;
  source = new EventSource(job ? `/api/v1/events?job=${job}&seen=${version}` : "/api/v1/events");
  source.onopen = () => {
    // Whatever happened while nobody listened is caught up with by one refresh.
    if (lost) signal();
    lost = 0;
    setStatus("live");
  };
  source.onerror = () => {
    lost += 1;
    setStatus("lost");
    if (source?.readyState === EventSource.CLOSED) reconnectLater();
  };
  for (const name of ["job", "event"]) source.addEventListener(name, signal);
}

function reconnectLater(): void {
  source = undefined;
  window.setTimeout(connect, Math.min(30_000, 1000 * 2 ** Math.min(lost, 5)));
}

/** Browsers allow six connections to a server over HTTP/1.1: hidden tabs must not hold one each. */
function onVisibility(): void {
  if (document.hidden) disconnect();
  else connect();
}

function disconnect(): void {
  source?.close();
  source = undefined;
  lost += 1;
}

function setStatus(status: "live" | "lost"): void {
  const mark = document.querySelector<HTMLElement>("#connection");
  if (!mark || mark.dataset["status"] === status) return;
  mark.dataset["status"] = status;
  mark.title = status === "live" ? "Live: this page follows the server" : "Connection lost; trying again";
}

/** Follow the server, on pages that show something live. */
export function startLive(): void {
  if (!document.body.hasAttribute("data-live")) return;
  connect();
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
}
