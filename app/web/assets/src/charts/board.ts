// All charts of a job: what they show, when they fetch, how they look.
import { ApiError, call } from "../api";
import { need, throttle } from "../dom";
import { CHANGE } from "../live";
import { Chart, type Look, type Words } from "./chart";
import { type MetricSeries, panels } from "./series";

export interface BoardData {
  job: number;
  /** Title and unit by panel name, for those the server knows words for. */
  words: Record<string, Words>;
  final: boolean;
}

const FULL_POINTS = 800;
const ZOOM_POINTS = 2000;

/** Looks survive a reload: they belong to the person, not to the job. */
function remembered<T>(name: string, fallback: T): T {
  try {
    return JSON.parse(localStorage.getItem(`cairn-${name}`) ?? "null") ?? fallback;
  } catch {
    return fallback;
  }
}

function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(`cairn-${name}`, JSON.stringify(value));
  } catch {
    // Storage is switched off: the choice lasts for this page.
  }
}

export class Board {
  private charts = new Map<string, Chart>();
  private range: [number, number] | undefined;
  private logs: Record<string, boolean> = remembered("log-y", {});
  private logX: boolean = remembered("log-x", false);
  private smoothing: number = remembered("smoothing", 0);
  private newest: MetricSeries = { steps: {}, values: {} };
  private asked = 0;

  constructor(
    private readonly data: BoardData,
    private readonly place: HTMLElement,
  ) {}

  /** Wire the controls, draw, and follow the job. */
  start(): void {
    this.bindToggle("#log-x", this.logX, (on) => {
      this.logX = on;
      remember("log-x", on);
    });
    const slider = need<HTMLInputElement>("#smoothing");
    slider.value = String(Math.round(this.smoothing * 100));
    slider.addEventListener("input", () => {
      this.smoothing = Number(slider.value) / 100;
      remember("smoothing", this.smoothing);
      this.restyle();
    });
    need("#zoom-out").addEventListener("click", () => this.zoom(undefined));
    this.place.addEventListener("dblclick", () => this.zoom(undefined));
    document.addEventListener("cairn:theme", () => this.restyle());
    const refresh = throttle(() => void this.fetch(), 2000);
    document.body.addEventListener(CHANGE, () => {
      if (!this.range) refresh();
    });
    void this.fetch();
  }

  private bindToggle(selector: string, on: boolean, set: (on: boolean) => void): void {
    const button = need<HTMLButtonElement>(selector);
    button.setAttribute("aria-pressed", String(on));
    button.addEventListener("click", () => {
      const next = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(next));
      set(next);
      this.restyle();
    });
  }

  /** Show a range of steps at the resolution it deserves, or everything. */
  private zoom(range: [number, number] | undefined): void {
    this.range = range;
    need<HTMLButtonElement>("#zoom-out").hidden = range === undefined;
    need("#zoom-range").textContent = range ? `steps ${range[0].toLocaleString("en")}–${range[1].toLocaleString("en")}` : "";
    void this.fetch();
  }

  private async fetch(): Promise<void> {
    const ticket = ++this.asked;
    const query = new URLSearchParams({ max_points: String(this.range ? ZOOM_POINTS : FULL_POINTS) });
    if (this.range) {
      query.set("from_step", String(this.range[0]));
      query.set("to_step", String(this.range[1]));
    }
    try {
      const answer = await call<MetricSeries>("GET", `/api/v1/jobs/${this.data.job}/metrics?${query}`);
      if (ticket === this.asked) this.show(answer);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      need("#charts-note").textContent = `The charts could not be loaded: ${error.message}`;
    }
  }

  private show(data: MetricSeries): void {
    this.newest = data;
    const wanted = panels(Object.keys(data.values).filter((key) => data.values[key]?.length));
    need("#charts-note").textContent = wanted.length || this.range ? this.gaps(data) : this.waiting();
    for (const panel of wanted) {
      const known = this.charts.get(panel.name);
      if (known && known.panel.lines.length === panel.lines.length) continue;
      const chart = new Chart(panel, this.wordsFor(panel.name), this.look(panel.name), (from, to) => this.zoom([from, to]), (name, on) => this.setLog(name, on));
      if (known) known.element.replaceWith(chart.element);
      this.charts.set(panel.name, chart);
    }
    this.arrange(wanted.map((panel) => panel.name));
    for (const chart of this.charts.values()) chart.show(data);
  }

  /** Put the charts into the order of the panels without touching those that are there already. */
  private arrange(names: string[]): void {
    names.forEach((name, index) => {
      const element = this.charts.get(name)?.element;
      if (element && this.place.children[index] !== element) this.place.insertBefore(element, this.place.children[index] ?? null);
    });
  }

  private waiting(): string {
    return this.data.final ? "This job ended before its first step: there is nothing to draw." : "The charts appear with the first step.";
  }

  /** A gap in a line is only honest when the page says what it is. */
  private gaps(data: MetricSeries): string {
    const broken = Object.entries(data.non_finite ?? {}).filter(([, places]) => places.length);
    if (!broken.length) return "";
    const [key, places] = broken[0]!;
    const [step, value] = places[0]!;
    return `${key} is ${value} at step ${step.toLocaleString("en")}: gaps in the lines are values that are not finite.`;
  }

  private wordsFor(name: string): Words {
    return this.data.words[name] ?? { title: name, unit: "" };
  }

  private look(name: string): Look {
    const losses = !name.startsWith("perf/");
    return { logY: this.logs[name] ?? losses, logX: this.logX, smoothing: this.smoothing };
  }

  private setLog(name: string, on: boolean): void {
    this.logs[name] = on;
    remember("log-y", this.logs);
    this.charts.get(name)?.restyle(this.look(name));
  }

  private restyle(): void {
    for (const [name, chart] of this.charts) chart.restyle(this.look(name));
    this.show(this.newest);
  }
}
