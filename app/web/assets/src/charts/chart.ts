// One uPlot chart of one quantity over steps (or frames): its frame and axes, and the lines of one job in it.
import uPlot from "uplot";
import { h } from "../dom";
import { significant } from "../format";
import { colour, dash, groupColour } from "./colours";
import { align, type Column, highest, type Line, type MetricSeries, type Panel, positive, smooth } from "./series";

export interface Look {
  logY: boolean;
  logX: boolean;
  /** Weight of the moving average; 0 shows the values as they are. */
  smoothing: number;
}

/** What a chart tells its board: somebody zoomed, or wants the other axis. */
export interface Listener {
  zoom: (from: number, to: number) => void;
  log: (panel: string, on: boolean) => void;
}

export interface Words {
  title: string;
  unit: string;
  /** How the chart begins; without it, logarithmic. */
  scale?: "log" | "linear";
  /** False: there is no chart of it. */
  charted?: boolean;
}

const HEIGHT = 232;

/** Return steps as axis labels, all in the unit that the largest calls for: `2.5k`, `10k`. */
function shortSteps(steps: (number | null)[]): string[] {
  const top = Math.max(...steps.map((step) => step ?? 0));
  const [unit, letter] = top >= 2e6 ? [1e6, "M"] : top >= 1e4 ? [1e3, "k"] : [1, ""];
  return steps.map((step) => (step === null ? "" : step === 0 ? "0" : `${Number((step / unit).toPrecision(6))}${letter}`));
}

/** Return the newest value at or before an index: between two validations the last one stands. */
function latest(column: ArrayLike<number | null | undefined> | undefined, index: number | null): number | null | undefined {
  if (!column) return null;
  for (let at = index ?? column.length - 1; at >= 0; at -= 1) if (column[at] !== undefined) return column[at];
  return null;
}

/** uPlot asks for a label at every minor tick of a log axis and gives null where none is wanted. */
function shortValues(values: (number | null)[]): string[] {
  return values.map((value) => (value === null ? "" : significant(value)));
}

/** Over many decades the lines between them would be a grey area: only the decades are left. */
function gridValues(values: number[]): (number | null)[] {
  return values.length <= 60 ? values : values.map((value) => (Number.isInteger(Number(Math.log10(value).toFixed(6))) ? value : null));
}

/** Few values are drawn as points: two of them make no visible line. */
function measured(column: Column): number {
  return column.reduce<number>((count, value) => count + (value === undefined ? 0 : 1), 0);
}

/** A chart in its frame. What is drawn in it, its subclasses say; they have a first table by the time it is drawn. */
export abstract class Chart<Data> {
  readonly element: HTMLElement;
  protected look: Look;
  protected data: Data | undefined;
  private plot: uPlot | undefined;
  private readonly canvas: HTMLElement;

  constructor(
    readonly panel: Panel,
    protected readonly words: Words,
    look: Look,
    private readonly listener: Listener,
    /** What the horizontal axis counts. */
    private readonly axis = "step",
  ) {
    this.look = look;
    this.canvas = h("div", { class: "chart-canvas" });
    const log = h("button", { type: "button", class: "toggle", "aria-pressed": String(look.logY) }, "log");
    log.title = `Logarithmic axis for ${words.title}`;
    log.addEventListener("click", () => {
      const on = log.getAttribute("aria-pressed") !== "true";
      log.setAttribute("aria-pressed", String(on));
      listener.log(panel.name, on);
    });
    this.element = h(
      "figure",
      { class: "chart", "data-panel": panel.name, "aria-label": `${words.title} over ${axis}s` },
      h("figcaption", {}, h("span", { class: "chart-title" }, words.title), h("span", { class: "unit" }, words.unit), log),
      this.canvas,
    );
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  /** Return the steps, and the values of every series. */
  protected abstract table(data: Data): uPlot.AlignedData;

  /** Return how each column of the table is drawn. */
  protected abstract series(): uPlot.Series[];

  /** Return which areas between two series are filled. */
  protected bands(): uPlot.Band[] {
    return [];
  }

  /** Draw over the finished picture. */
  protected mark(_plot: uPlot): void {}

  /** Show new values, keeping the look. */
  show(data: Data): void {
    this.data = data;
    const table = this.table(data);
    if (this.plot && this.plot.series.length === table.length) this.plot.setData(table);
    else this.restyle(this.look);
  }

  /** Show the same values in another way. */
  restyle(look: Look): void {
    this.look = look;
    this.plot?.destroy();
    this.plot = undefined;
    this.build();
  }

  private build(): void {
    if (this.data === undefined || !this.canvas.isConnected || !this.canvas.clientWidth) return;
    this.plot = new uPlot(this.options(), this.table(this.data), this.canvas);
  }

  /** Return the step at a place of the table. */
  protected stepAt(index: number): number | undefined {
    return this.plot?.data[0][index];
  }

  private resize(): void {
    if (!this.plot) this.build();
    else if (this.plot.width !== this.canvas.clientWidth)
      this.plot.setSize({ width: this.canvas.clientWidth, height: HEIGHT });
  }

  private options(): uPlot.Options {
    const text = colour("--ink-2");
    const axis = { stroke: text, grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    return {
      width: this.canvas.clientWidth,
      height: HEIGHT,
      padding: [8, 20, 0, 0],
      cursor: { sync: { key: "steps", setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: false, distr: this.look.logX ? 3 : 1 }, y: { distr: this.look.logY ? 3 : 1 } },
      axes: [
        { ...axis, size: 26, gap: 2, space: 64, values: (_, steps) => shortSteps(steps) },
        { ...axis, grid: { ...axis.grid, filter: (_, values) => gridValues(values) }, size: 58, gap: 3, space: 30, values: (_, values) => shortValues(values) },
      ],
      series: [
        { label: this.axis, value: (plot, _, column, index) => latest(plot.data[column], index)?.toLocaleString("en") ?? "–" },
        ...this.series(),
      ],
      bands: this.bands(),
      hooks: { setSelect: [(plot) => this.select(plot)], draw: [(plot) => this.mark(plot)] },
    };
  }

  /** Return how a line of this panel is drawn, whatever is drawn around it. */
  protected line(line: Line): uPlot.Series {
    return {
      label: line.label || this.words.title.toLowerCase(),
      stroke: groupColour(line.group),
      width: line.group === "train" ? 1.25 : 1.75,
      dash: dash(line.task),
      spanGaps: false,
      points: { fill: colour("--surface"), show: (plot, index) => measured(plot.data[index] as Column) < 40 },
      value: (plot, _, column, index) => significant(latest(plot.data[column], index)),
    };
  }

  private select(plot: uPlot): void {
    if (plot.select.width < 4) return;
    const from = plot.posToVal(plot.select.left, "x");
    const to = plot.posToVal(plot.select.left + plot.select.width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.listener.zoom(Math.max(0, Math.floor(from)), Math.ceil(to));
  }
}

/** The metrics of one job. */
export class LineChart extends Chart<MetricSeries> {
  /** Return the steps and every line; with smoothing, each line as it is (faint) and its average. */
  protected table(data: MetricSeries): uPlot.AlignedData {
    const [steps, columns] = align(this.panel.lines, data);
    const shown: Column[] = [];
    for (const column of columns) {
      const values = this.look.logY ? positive(column) : column;
      shown.push(values);
      if (this.look.smoothing) shown.push(smooth(values, this.look.smoothing));
    }
    return [steps, ...shown] as uPlot.AlignedData;
  }

  protected series(): uPlot.Series[] {
    return this.panel.lines.flatMap((line) => {
      const base = this.line(line);
      if (!this.look.smoothing) return [base];
      const raw = { ...base, alpha: 0.25, width: 1 };
      return [raw, { ...base, width: 2, label: `${base.label}, averaged` }];
    });
  }

  /** Mark the largest value of what has a largest one worth looking at: the frame on which models disagree most. */
  protected override mark(plot: uPlot): void {
    const place = this.panel.lines.findIndex((line) => line.isPeak);
    const values = plot.data[1 + place * (this.look.smoothing ? 2 : 1)] as Column | undefined;
    if (place >= 0 && values) markPeak(plot, values);
  }
}

/** Put a ring around the largest value, with what and where it is. */
function markPeak(plot: uPlot, values: Column): void {
  const top = highest(values);
  const [value, at] = top === undefined ? [] : [values[top], plot.data[0][top]];
  if (typeof value !== "number" || at === undefined) return;
  const [x, y] = [plot.valToPos(at, "x", true), plot.valToPos(value, "y", true)];
  const { ctx } = plot;
  const scale = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("--bad");
  ctx.lineWidth = 1.75 * scale;
  ctx.beginPath();
  ctx.arc(x, y, 5 * scale, 0, 2 * Math.PI);
  ctx.stroke();
  ctx.font = `600 ${11 * scale}px system-ui, sans-serif`;
  ctx.textBaseline = "middle";
  const isRight = x > plot.bbox.left + plot.bbox.width * 0.6;
  ctx.textAlign = isRight ? "right" : "left";
  const words = `max ${significant(value)} at ${at.toLocaleString("en")}`;
  const left = x + (isRight ? -10 : 10) * scale;
  // Lines behind the words would make them hard to read.
  ctx.strokeStyle = colour("--surface");
  ctx.lineWidth = 4 * scale;
  ctx.lineJoin = "round";
  ctx.strokeText(words, left, y);
  ctx.fillText(words, left, y);
  ctx.restore();
}
