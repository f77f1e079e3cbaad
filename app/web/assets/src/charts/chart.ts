// One uPlot chart of one quantity over steps.
import uPlot from "uplot";
import { h } from "../dom";
import { significant } from "../format";
import { colour, dash, groupColour } from "./colours";
import { align, type Column, type Line, type MetricSeries, type Panel, positive, smooth } from "./series";

export interface Look {
  logY: boolean;
  logX: boolean;
  /** Weight of the moving average; 0 shows the values as they are. */
  smoothing: number;
}

export interface Words {
  title: string;
  unit: string;
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

export class Chart {
  readonly element: HTMLElement;
  private plot: uPlot | undefined;
  private data: MetricSeries = { steps: {}, values: {} };
  private look: Look;
  private readonly canvas: HTMLElement;

  constructor(
    readonly panel: Panel,
    private readonly words: Words,
    look: Look,
    private readonly onZoom: (from: number, to: number) => void,
    onLog: (panel: string, on: boolean) => void,
  ) {
    this.look = look;
    this.canvas = h("div", { class: "chart-canvas" });
    const log = h("button", { type: "button", class: "toggle", "aria-pressed": String(look.logY) }, "log");
    log.title = `Logarithmic axis for ${words.title}`;
    log.addEventListener("click", () => {
      const on = log.getAttribute("aria-pressed") !== "true";
      log.setAttribute("aria-pressed", String(on));
      onLog(panel.name, on);
    });
    this.element = h(
      "figure",
      { class: "chart", "data-panel": panel.name, "aria-label": `${words.title} over training steps` },
      h("figcaption", {}, h("span", { class: "chart-title" }, words.title), h("span", { class: "unit" }, words.unit), log),
      this.canvas,
    );
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  /** Show new values, keeping the look. */
  show(data: MetricSeries): void {
    this.data = data;
    if (this.plot) this.plot.setData(this.table());
    else this.build();
  }

  /** Show the same values in another way. */
  restyle(look: Look): void {
    this.look = look;
    this.plot?.destroy();
    this.plot = undefined;
    this.build();
  }

  private build(): void {
    if (!this.canvas.isConnected || !this.canvas.clientWidth) return;
    this.plot = new uPlot(this.options(), this.table(), this.canvas);
  }

  private resize(): void {
    if (!this.plot) this.build();
    else if (this.plot.width !== this.canvas.clientWidth)
      this.plot.setSize({ width: this.canvas.clientWidth, height: HEIGHT });
  }

  /** Return the steps and every line; with smoothing, each line as it is (faint) and its average. */
  private table(): uPlot.AlignedData {
    const [steps, columns] = align(this.panel.lines, this.data);
    const shown: Column[] = [];
    for (const column of columns) {
      const values = this.look.logY ? positive(column) : column;
      shown.push(values);
      if (this.look.smoothing) shown.push(smooth(values, this.look.smoothing));
    }
    return [steps, ...shown] as uPlot.AlignedData;
  }

  private options(): uPlot.Options {
    const text = colour("--ink-2");
    const axis = { stroke: text, grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--grid"), width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    return {
      width: this.canvas.clientWidth,
      height: HEIGHT,
      padding: [8, 10, 0, 0],
      cursor: { sync: { key: "steps", setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: false, distr: this.look.logX ? 3 : 1 }, y: { distr: this.look.logY ? 3 : 1 } },
      axes: [
        { ...axis, size: 26, gap: 2, space: 64, values: (_, steps) => shortSteps(steps) },
        { ...axis, grid: { ...axis.grid, filter: (_, values) => gridValues(values) }, size: 58, gap: 3, space: 30, values: (_, values) => shortValues(values) },
      ],
      series: [
        { label: "step", value: (plot, _, column, index) => latest(plot.data[column], index)?.toLocaleString("en") ?? "–" },
        ...this.series(),
      ],
      hooks: { setSelect: [(plot) => this.select(plot)] },
    };
  }

  private series(): uPlot.Series[] {
    return this.panel.lines.flatMap((line) => {
      const base = this.line(line);
      if (!this.look.smoothing) return [base];
      const raw = { ...base, alpha: 0.25, width: 1 };
      return [raw, { ...base, width: 2, label: `${line.label}, averaged` }];
    });
  }

  private line(line: Line): uPlot.Series {
    return {
      label: line.group === "train" || line.group === "val" ? line.label : this.words.title.toLowerCase(),
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
    this.onZoom(Math.max(0, Math.floor(from)), Math.ceil(to));
  }
}
