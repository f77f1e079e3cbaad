// The charts of a group: the mean of its replicas over steps, with its 95 % band, the spread, and every replica if wanted.
import type uPlot from "uplot";
import { call } from "../api";
import { significant } from "../format";
import { Board, type BoardData, remember, remembered } from "./board";
import { Chart, type Listener, type Look, type Words } from "./chart";
import { groupColour } from "./colours";
import { align, type Line, type MetricSeries, type Panel, positive } from "./series";

/** One metric over steps: statistics of the replicas that have the step. Null: NaN, infinity or not defined. */
interface Band {
  steps: number[];
  count: number[];
  mean: (number | null)[];
  std: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  min: (number | null)[];
}

/** What is drawn: the bands by key, and the lines of the replicas, by job, as far as they are wanted. */
interface GroupSeries {
  bands: Record<string, Band>;
  replicas: MetricSeries[];
}

export interface GroupData extends BoardData {
  group: number;
  /** The jobs. */
  replicas: number[];
}

/** What a person wants to see around the mean. */
export interface Around {
  band: boolean;
  std: boolean;
  replicas: boolean;
}

/** Columns of one metric: mean, the band's two ends, the spread's two edges. */
const PER_LINE = 5;
/** Requests for replicas' lines that are under way at the same time: browsers allow six connections to a server. */
const AT_ONCE = 4;
/** Points of a faint line. */
const FAINT_POINTS = 300;

class BandChart extends Chart<GroupSeries> {
  constructor(
    panel: Panel,
    words: Words,
    look: Look,
    listener: Listener,
    private readonly around: Around,
  ) {
    super(panel, words, look, listener);
  }

  /** The replicas whose lines are drawn. */
  private get faint(): MetricSeries[] {
    return this.around.replicas ? (this.data?.replicas ?? []) : [];
  }

  /** Return all columns on one axis of steps: five of each metric, then the replicas' lines. */
  protected table({ bands }: GroupSeries): uPlot.AlignedData {
    const all: MetricSeries = { steps: {}, values: {} };
    const names: Line[] = [];
    const add = (line: Line, steps: number[] | undefined, values: (number | null)[] | undefined): void => {
      const key = String(names.length);
      all.steps[key] = steps ?? [];
      all.values[key] = values ?? [];
      names.push({ ...line, key });
    };
    for (const line of this.panel.lines) {
      const band = bands[line.key];
      for (const values of this.columns(band)) add(line, band?.steps, values);
    }
    for (const line of this.panel.lines) for (const one of this.faint) add(line, one.steps[line.key], one.values[line.key]);
    const [steps, aligned] = align(names, all);
    return [steps, ...aligned.map((column) => (this.look.logY ? positive(column) : column))] as uPlot.AlignedData;
  }

  /** Return mean, low, high, mean - std and mean + std. On an axis of decades the band ends below the picture. */
  private columns(band: Band | undefined): (number | null)[][] {
    if (!band) return Array.from({ length: PER_LINE }, () => []);
    const floor = this.look.logY ? lowest(band) : -Infinity;
    const kept = (value: number | null): number | null => (value === null ? null : Math.max(value, floor));
    const edge = (sign: number): (number | null)[] =>
      band.mean.map((mean, index) => {
        const std = band.std[index] ?? null;
        return mean === null || std === null ? null : mean + sign * std;
      });
    return [band.mean, band.low.map(kept), band.high.map(kept), edge(-1), edge(1)];
  }

  protected series(): uPlot.Series[] {
    const { lines } = this.panel;
    const rest = lines.flatMap((line) => this.faint.map((): uPlot.Series => ({ ...hidden(line), width: 1, alpha: 0.3 })));
    return [...lines.flatMap((line) => this.withEdges(line)), ...rest];
  }

  private withEdges(line: Line): uPlot.Series[] {
    const mean: uPlot.Series = {
      ...this.line(line),
      label: line.label ? `${line.label}, mean` : "mean",
      width: 2,
      value: (_plot, _value, _column, index) => this.inWords(line, index),
    };
    const end: uPlot.Series = { ...hidden(line), show: this.around.band, width: 0 };
    const edge: uPlot.Series = { ...hidden(line), show: this.around.std, width: 1, dash: [4, 3] };
    return [mean, end, { ...end }, edge, { ...edge }];
  }

  protected override bands(): uPlot.Band[] {
    if (!this.around.band) return [];
    return this.panel.lines.map((line, index) => {
      const first = 1 + index * PER_LINE;
      return { series: [first + 2, first + 1], fill: transparent(groupColour(line.group)) };
    });
  }

  /** Return the mean at a place with its interval and how many replicas it is of; without a place, the newest. */
  private inWords(line: Line, index: number | null): string {
    const band = this.data?.bands[line.key];
    const at = band && this.nearest(band, index);
    if (!band || at === undefined) return "–";
    const [mean, std] = [significant(band.mean[at]), band.std[at]];
    return `${mean}${std == null ? "" : ` ± ${significant(std)}`} of ${band.count[at]}`;
  }

  /** Return the last place of a band at or before that of the cursor. */
  private nearest(band: Band, index: number | null): number | undefined {
    if (index === null) return band.steps.length - 1;
    const step = this.stepAt(index);
    const at = step === undefined ? -1 : band.steps.findLastIndex((one) => one <= step);
    return at < 0 ? undefined : at;
  }
}

/** Return where what is below zero ends on an axis of decades: a little below the lowest value there is. */
function lowest(band: Band): number {
  return Math.min(...[...band.min, ...band.mean].filter((value): value is number => value !== null && value > 0)) / 2;
}

/** Return a series without a place in the legend. */
function hidden(line: Line): uPlot.Series {
  return { label: "", class: "unlisted", stroke: groupColour(line.group), spanGaps: false, points: { show: false } };
}

function transparent(solid: string): string {
  return solid.replace(/^rgb\((.*)\)$/, "rgba($1, 0.16)");
}

/** The charts of one group. */
export class GroupBoard extends Board<GroupSeries> {
  private readonly around: Around = { band: true, std: true, replicas: false, ...remembered<Partial<Around>>("around", {}) };

  constructor(
    private readonly of: GroupData,
    place: HTMLElement,
  ) {
    super(of, place);
  }

  override start(): void {
    for (const name of ["band", "std", "replicas"] as const) {
      this.bindToggle(`#show-${name}`, this.around[name], (on) => {
        this.around[name] = on;
        remember("around", this.around);
        if (name === "replicas") void this.fetch();
      });
    }
    super.start();
  }

  protected async load(query: URLSearchParams): Promise<GroupSeries> {
    const [{ bands }, replicas] = await Promise.all([
      call<{ bands: Record<string, Band> }>("GET", `/api/v1/groups/${this.of.group}/metrics?${query}`),
      this.around.replicas ? this.lines(query) : [],
    ]);
    return { bands, replicas };
  }

  /** Fetch the lines of all replicas, a few at a time. */
  private async lines(query: URLSearchParams): Promise<MetricSeries[]> {
    const wanted = new URLSearchParams(query);
    wanted.set("max_points", String(FAINT_POINTS));
    const found: MetricSeries[] = [];
    const waiting = [...this.of.replicas.entries()];
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        found[next[0]] = await call<MetricSeries>("GET", `/api/v1/jobs/${next[1]}/metrics?${wanted}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return found;
  }

  protected keys({ bands }: GroupSeries): string[] {
    return Object.keys(bands).filter((key) => bands[key]?.steps.length);
  }

  protected chart(panel: Panel, words: Words, look: Look, listener: Listener): BandChart {
    return new BandChart(panel, words, look, listener, this.around);
  }
}
