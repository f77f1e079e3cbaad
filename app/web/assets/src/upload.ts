// Uploading a dataset or a base model, with progress: XMLHttpRequest, because fetch tells nothing about what was sent.
// The form says where to send it (data-action), which page to go to then (data-page), and what comes after the last byte.
import { csrfToken, type Problem, problemsOf } from "./api";
import { announce } from "./chrome";
import { h, need, ticks } from "./dom";
import { bytes, duration } from "./format";

const form = need<HTMLFormElement>("#upload-form");
const bar = need<HTMLProgressElement>("#upload-progress");
const words = need("#upload-words");
const problemsPlace = need("#upload-problems");
const file = need<HTMLInputElement>("#upload-file");
const nameField = need<HTMLInputElement>("#upload-name");
const submitButton = need<HTMLButtonElement>("#upload-button");
const cancelButton = need<HTMLButtonElement>("#upload-cancel");
let running: XMLHttpRequest | undefined;

/** Return a file's name as a name here: `Water 300K.tar.gz` becomes `water-300k`. */
function nameFrom(fileName: string): string {
  return fileName
    .toLowerCase()
    .replace(/(\.(tar|gz|tgz|bz2|xz|zst|zip|extxyz|xyz|traj|h5|hdf5|pt|pth|safetensors|jsonl|ndjson|json))+$/, "")
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+|-+$/g, "")
    .slice(0, 63);
}

function showProblems(problems: Problem[]): void {
  problemsPlace.replaceChildren(
    ...problems.map((problem) => h("li", {}, h("p", {}, ...ticks(problem.message)), problem.hint ? h("p", { class: "hint" }, ...ticks(problem.hint)) : null)),
  );
  problemsPlace.hidden = problems.length === 0;
  if (problems.length) announce(problems[0]!.message);
}

function busy(on: boolean): void {
  submitButton.disabled = on;
  cancelButton.hidden = !on;
  bar.hidden = !on;
  if (!on) words.textContent = "";
}

function onProgress(event: ProgressEvent, started: number): void {
  if (!event.lengthComputable) return;
  bar.max = event.total;
  bar.value = event.loaded;
  const seconds = (performance.now() - started) / 1000;
  const rate = event.loaded / Math.max(seconds, 0.001);
  const left = (event.total - event.loaded) / Math.max(rate, 1);
  words.textContent =
    event.loaded < event.total
      ? `${bytes(event.loaded)} of ${bytes(event.total)} · ${bytes(Math.round(rate))}/s · ${duration(left)} left`
      : (form.dataset["sent"] ?? "");
  if (event.loaded >= event.total) bar.removeAttribute("value");
}

function upload(chosen: File): void {
  const request = new XMLHttpRequest();
  running = request;
  const started = performance.now();
  const body = new FormData(form);
  body.delete("file");
  const fields = new URLSearchParams([...body].map(([key, value]) => [key, String(value)]));
  fields.set("filename", chosen.name);
  request.open("POST", `${form.dataset["action"]}?${fields}`);
  request.setRequestHeader("X-CSRF-Token", csrfToken());
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => onProgress(event, started);
  request.onload = () => finished(request);
  request.onerror = () => failed("The upload broke off: the server does not answer.");
  request.onabort = () => failed("Upload cancelled.");
  busy(true);
  showProblems([]);
  request.send(chosen);
}

function finished(request: XMLHttpRequest): void {
  busy(false);
  if (request.status >= 400) return showProblems(problemsOf(request.status, request.responseText));
  const { name, version } = JSON.parse(request.responseText) as { name: string; version: number };
  location.assign(`${form.dataset["page"]}${name}@${version}`);
}

function failed(message: string): void {
  busy(false);
  showProblems([{ code: "upload", message }]);
}

file.addEventListener("change", () => {
  const chosen = file.files?.[0];
  if (chosen && (!nameField.value || nameField.dataset["guessed"] === nameField.value)) {
    nameField.value = nameFrom(chosen.name);
    nameField.dataset["guessed"] = nameField.value;
  }
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = file.files?.[0];
  if (chosen) upload(chosen);
});
cancelButton.addEventListener("click", () => running?.abort());
for (const kind of ["dragover", "drop"] as const) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    form.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer?.files.length) {
      file.files = event.dataTransfer.files;
      file.dispatchEvent(new Event("change"));
    }
  });
}
form.addEventListener("dragleave", () => form.classList.remove("dropping"));
