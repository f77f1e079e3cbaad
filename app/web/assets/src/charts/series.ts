// From metric keys (`group/name[/task]`) to panels of lines, and the arithmetic on their values.

export interface MetricSeries {
  steps: Record<string, number[]>;
  values: Record<string, (number | null)[]>;
  non_finite?: Record<string, [number, string][]>;
}

export interface Line {
  key: string;
  label: string;
  /** train, val, max, …: decides the colour. */
  group: string;
  /** Index among the tasks of a multi-task training: decides the dash. */
  task: number;
  /** Whether its largest value is marked. */
  isPeak?: boolean;
}

export interface Panel {
  name: string;
  lines: Line[];
}

interface Parts {
  group: string;
  name: string;
  task: string | undefined;
}

function parts(key: string): Parts {
  const words = key.split("/");
  if (words.length === 1) return { group: "", name: key, task: undefined };
  return { group: words[0] ?? "", name: words[1] ?? key, task: words.slice(2).join("/") || undefined };
}

/** Deviations of models: `devi/max_f` is one of three lines of the panel `devi/f`. */
const OF_DEVIATION = /^(max|avg|min)_(.+)$/;
const GROUP_WORDS: Record<string, string> = { train: "training", val: "validation", test: "all so far", frame: "of the frame" };
const DEVIATION_WORDS: Record<string, string> = { max: "largest", avg: "average", min: "smallest" };

function panelName({ group, name }: Parts): string {
  if (group === "devi") return `devi/${OF_DEVIATION.exec(name)?.[2] ?? name}`;
  return group === "perf" ? `perf/${name}` : name;
}

/** Return what a line is called beside the others of its panel, and its group; alone it is called what the panel is. */
function lineWords({ group, name }: Parts): [string, string] {
  const kind = group === "devi" ? OF_DEVIATION.exec(name)?.[1] : undefined;
  if (kind) return [DEVIATION_WORDS[kind] ?? kind, kind];
  return [GROUP_WORDS[group] ?? "", group];
}

/** Group keys into panels: one per quantity, training and validation together, in `order`, rates and timings last. */
export function panels(keys: string[], order: string[]): Panel[] {
  const byName = new Map<string, Line[]>();
  const tasks = [...new Set(keys.map((key) => parts(key).task ?? ""))].sort();
  for (const key of [...keys].sort()) {
    const part = parts(key);
    const lines = byName.get(panelName(part)) ?? [];
    const [words, group] = lineWords(part);
    lines.push({
      key,
      label: [words, part.task].filter(Boolean).join(" · "),
      group,
      isPeak: part.group === "devi" && part.name.startsWith("max_"),
      task: Math.max(0, tasks.indexOf(part.task ?? "")),
    });
    byName.set(panelName(part), lines);
  }
  return [...byName.entries()].map(([name, lines]) => ({ name, lines })).sort((a, b) => rank(a.name, order) - rank(b.name, order));
}

function rank(name: string, order: string[]): number {
  if (name.startsWith("perf/")) return 300;
  if (name === "lr") return 200;
  const index = order.indexOf(name);
  return index < 0 ? 100 : index;
}

/** Return the exponential moving average (0 ≤ weight < 1), unbiased at the start; gaps stay gaps. */
export function smooth(values: (number | null | undefined)[], weight: number): (number | null | undefined)[] {
  let mean = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    mean = weight * mean + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}

export type Column = (number | null | undefined)[];

/** Bring lines with steps of their own onto one axis. Not measured is undefined (the line goes on), NaN is null (a gap). */
export function align(lines: Line[], data: MetricSeries): [number[], Column[]] {
  const all = new Set<number>();
  for (const line of lines) for (const step of data.steps[line.key] ?? []) all.add(step);
  const steps = [...all].sort((a, b) => a - b);
  const index = new Map(steps.map((step, i) => [step, i]));
  const columns = lines.map((line) => {
    const column: Column = new Array<undefined>(steps.length).fill(undefined);
    const values = data.values[line.key] ?? [];
    (data.steps[line.key] ?? []).forEach((step, i) => (column[index.get(step) ?? 0] = values[i] ?? null));
    return column;
  });
  return [steps, columns];
}

/** Return the place of the largest number; undefined where there is none. */
export function highest(values: Column): number | undefined {
  let best: number | undefined;
  values.forEach((value, at) => {
    if (typeof value === "number" && (best === undefined || value > (values[best] ?? -Infinity))) best = at;
  });
  return best;
}

/** A logarithmic axis has no place for zero and below. */
export function positive(values: Column): Column {
  return values.map((value) => (typeof value === "number" && value <= 0 ? null : value));
}
