// Every page loads this: htmx, the frame around the content, and the event stream.
import htmx from "htmx.org";
import { startActions } from "./actions";
import { csrfToken } from "./api";
import { announce, startChrome } from "./chrome";
import { startLive } from "./live";
import { startFollowing } from "./repeats";

interface RequestDetail {
  ctx: { request: { method: string; headers: Record<string, string> } };
}

let announced = document.querySelector<HTMLElement>("[data-announce]")?.dataset["announce"];

document.addEventListener("htmx:config:request", (event) => {
  const { request } = (event as CustomEvent<RequestDetail>).detail.ctx;
  if (request.method !== "GET") request.headers["X-CSRF-Token"] = csrfToken();
});
document.addEventListener("htmx:after:swap", () => {
  // What was swapped in may be the element itself, so the page is asked: it has one such place at most.
  const words = document.querySelector<HTMLElement>("[data-announce]")?.dataset["announce"];
  if (words && words !== announced) announce(words);
  announced = words;
});
htmx.config.defaultTimeout = 20_000;
// What somebody has opened, sent or copied stays so when the page around it is brought up to date.
htmx.config.morphIgnore.push("open", "aria-busy", "data-done");
startChrome();
startLive();
startFollowing();
startActions();
