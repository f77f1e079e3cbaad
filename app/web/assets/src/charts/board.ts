// All charts of a page: what they show, when they fetch, how they look.
import { ApiError, call } from "../api";
import { need, throttle } from "../dom";
import { significant } from "../format";
import { CHANGE } from "../live";
import { type Chart, type Listener, LineChart, type Look, type Words } from "./chart";
import { highest, type MetricSeries, type Panel, panels } from "./series";

/** What every board needs to know. */
export interface BoardData {
  /** Title and unit by panel name, for those the server knows words for. */
  words: Record<string, Words>;
  final: boolean;
}

export interface JobData extends BoardData {
  job: number;
  /** What its steps are: step, frame. */
  axis: string;
}

const FULL_POINTS = 800;
const ZOOM_POINTS = 2000;

/** Looks survive a reload: they belong to the person, not to the job. */
export function remembered<T>(name: string, fallback: T): T {
  try {
    return JSON.parse(localStorage.getItem(`cairn-${name}`) ?? "null") ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name: string, value: unknown): void {
  try {
    localStorage.setItem(`cairn-${name}`, JSON.stringify(value));
  } catch {
    // Storage is switched off: the choice lasts for this page.
  }
}

/** A place full of charts that follow the server; subclasses say what is fetched and how it is drawn. */
export abstract class Board<Data> {
  protected range: [number, number] | undefined;
  protected smoothing = 0;
  private charts = new Map<string, Chart<Data>>();
  private logs: Record<string, boolean> = remembered("log-y", {});
  private logX: boolean = remembered("log-x", false);
  private newest: Data | undefined;
  private asked = 0;

  constructor(
    protected readonly data: BoardData,
    private readonly place: HTMLElement,
    /** What is counted along the horizontal axes. */
    protected readonly axis = "step",
  ) {}

  /** Fetch what is drawn. The query says the range and the number of points. */
  protected abstract load(query: URLSearchParams): Promise<Data>;

  /** Return the metrics that have values. */
  protected abstract keys(data: Data): string[];

  protected abstract chart(panel: Panel, words: Words, look: Look, listener: Listener): Chart<Data>;

  /** Return what the page should say of the values, if anything. */
  protected note(_data: Data): string {
    return "";
  }

  /** Wire the controls, draw, and follow the server. */
  start(): void {
    this.bindToggle("#log-x", this.logX, (on) => {
      this.logX = on;
      remember("log-x", on);
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

  protected bindToggle(selector: string, on: boolean, set: (on: boolean) => void): void {
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
    need("#zoom-range").textContent = range ? `${this.axis}s ${range[0].toLocaleString("en")}–${range[1].toLocaleString("en")}` : "";
    void this.fetch();
  }

  protected async fetch(): Promise<void> {
    const ticket = ++this.asked;
    const query = new URLSearchParams({ max_points: String(this.range ? ZOOM_POINTS : FULL_POINTS) });
    if (this.range) {
      query.set("from_step", String(this.range[0]));
      query.set("to_step", String(this.range[1]));
    }
    try {
      const answer = await this.load(query);
      if (ticket === this.asked) this.show(answer);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      need("#charts-note").textContent = `The charts could not be loaded: ${error.message}`;
    }
  }

  private show(data: Data): void {
    this.newest = data;
    const wanted = panels(this.keys(data), Object.keys(this.data.words)).filter(({ name }) => this.wordsFor(name).charted !== false);
    need("#charts-note").textContent = wanted.length || this.range ? this.note(data) : this.waiting();
    const listener: Listener = { zoom: (from, to) => this.zoom([from, to]), log: (name, on) => this.setLog(name, on) };
    for (const panel of wanted) {
      const known = this.charts.get(panel.name);
      if (known && known.panel.lines.length === panel.lines.length) continue;
      const chart = this.chart(panel, this.wordsFor(panel.name), this.look(panel.name), listener);
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
    return this.data.final ? `Nothing was measured before the first ${this.axis}: there is nothing to draw.` : `The charts appear with the first ${this.axis}.`;
  }

  protected wordsFor(name: string): Words {
    return this.data.words[name] ?? { title: name, unit: "" };
  }

  private look(name: string): Look {
    return { logY: this.logs[name] ?? this.isLogByDefault(name), logX: this.logX, smoothing: this.smoothing };
  }

  /** Losses fall over decades; timings, deviations and what its engine says, such as energies below zero, do not. */
  private isLogByDefault(name: string): boolean {
    return this.wordsFor(name).scale !== "linear" && !name.startsWith("perf/") && !name.startsWith("devi/");
  }

  private setLog(name: string, on: boolean): void {
    this.logs[name] = on;
    remember("log-y", this.logs);
    this.charts.get(name)?.restyle(this.look(name));
  }

  protected restyle(): void {
    for (const [name, chart] of this.charts) chart.restyle(this.look(name));
    if (this.newest !== undefined) this.show(this.newest);
  }
}

/** The charts of one job. */
export class JobBoard extends Board<MetricSeries> {
  constructor(
    private readonly of: JobData,
    place: HTMLElement,
  ) {
    super(of, place, of.axis);
    this.smoothing = remembered("smoothing", 0);
  }

  override start(): void {
    const slider = need<HTMLInputElement>("#smoothing");
    slider.value = String(Math.round(this.smoothing * 100));
    slider.addEventListener("input", () => {
      this.smoothing = Number(slider.value) / 100;
      remember("smoothing", this.smoothing);
      this.restyle();
    });
    super.start();
  }

  protected load(query: URLSearchParams): Promise<MetricSeries> {
    return call<MetricSeries>("GET", `/api/v1/jobs/${this.of.job}/metrics?${query}`);
  }

  protected keys(data: MetricSeries): string[] {
    return Object.keys(data.values).filter((key) => data.values[key]?.length);
  }

  protected chart(panel: Panel, words: Words, look: Look, listener: Listener): LineChart {
    return new LineChart(panel, words, look, listener, this.axis);
  }

  protected override note(data: MetricSeries): string {
    return [this.gaps(data), ...this.peaks(data)].filter(Boolean).join(" ");
  }

  /** What is marked in a picture is also said, for those who do not see it. */
  private peaks(data: MetricSeries): string[] {
    return panels(this.keys(data), Object.keys(this.data.words)).flatMap(({ name, lines }) =>
      lines.filter((line) => line.isPeak).map((line) => this.peak(name, data.steps[line.key] ?? [], data.values[line.key] ?? [])),
    );
  }

  private peak(panel: string, steps: number[], values: (number | null)[]): string {
    const at = highest(values);
    const { title, unit } = this.wordsFor(panel);
    return at === undefined ? "" : `${title}: at most ${significant(values[at])} ${unit}, at ${this.axis} ${steps[at]?.toLocaleString("en")}.`;
  }

  /** A gap in a line is only honest when the page says what it is. */
  private gaps(data: MetricSeries): string {
    const broken = Object.entries(data.non_finite ?? {}).filter(([, places]) => places.length);
    if (!broken.length) return "";
    const [key, places] = broken[0]!;
    const [step, value] = places[0]!;
    return `${key} is ${value} at ${this.axis} ${step.toLocaleString("en")}: gaps in the lines are values that are not finite.`;
  }
}
