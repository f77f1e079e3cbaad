// Every page loads this: htmx, the frame around the content, and the event stream.
import htmx from "htmx.org";
import { csrfToken } from "./api";
import { announce, startChrome } from "./chrome";
import { startLive } from "./live";

interface RequestDetail {
  ctx: { request: { method: string; headers: Record<string, string> } };
}

document.addEventListener("htmx:config:request", (event) => {
  const { request } = (event as CustomEvent<RequestDetail>).detail.ctx;
  if (request.method !== "GET") request.headers["X-CSRF-Token"] = csrfToken();
});
document.addEventListener("htmx:after:swap", (event) => {
  const target = event.target instanceof HTMLElement ? event.target : null;
  const words = target?.querySelector<HTMLElement>("[data-announce]")?.dataset["announce"];
  if (words) announce(words);
});
htmx.config.defaultTimeout = 20_000;
startChrome();
startLive();
