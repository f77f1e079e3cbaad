// Two jobs side by side: a picture of how far the metric that parted first is apart, around that step.
import { call } from "./api";
import { LineChart, type Look } from "./charts/chart";
import type { MetricSeries } from "./charts/series";
import { pageData } from "./dom";

interface Curve {
  jobs: [number, number];
  key: string;
  /** The first step at which the two differ. */
  step: number;
}

const BEFORE = 200;
/** As many points as are fetched: within this range none is left out, so that every difference is one of equal steps. */
const POINTS = 2000;

/** Return |left − right| at the steps that both have; what is not finite in one of them is a gap. */
function apart(left: MetricSeries, right: MetricSeries, key: string): MetricSeries {
  const theirs = new Map((right.steps[key] ?? []).map((step, index) => [step, right.values[key]?.[index] ?? null]));
  const steps: number[] = [];
  const values: (number | null)[] = [];
  (left.steps[key] ?? []).forEach((step, index) => {
    const [ours, other] = [left.values[key]?.[index] ?? null, theirs.get(step)];
    if (other === undefined) return;
    steps.push(step);
    values.push(ours === null || other === null ? null : Math.abs(ours - other));
  });
  return { steps: { [key]: steps }, values: { [key]: values } };
}

async function fetched({ jobs, key }: Curve, from: number, to: number): Promise<MetricSeries> {
  const query = new URLSearchParams({ keys: key, from_step: `${from}`, to_step: `${to}`, max_points: `${POINTS}` });
  const [left, right] = await Promise.all(jobs.map((job) => call<MetricSeries>("GET", `/api/v1/jobs/${job}/metrics?${query}`)));
  return apart(left!, right!, key);
}

/** Draw the picture, if the page has a place for it that is still empty. */
async function draw(): Promise<void> {
  const place = document.querySelector<HTMLElement>("#curve");
  if (!place || place.childElementCount) return;
  const curve = pageData<Curve>("curve-data");
  const look: Look = { logY: true, logX: false, smoothing: 0 };
  const line = { key: curve.key, label: `#${curve.jobs[0]} and #${curve.jobs[1]}`, group: "val", task: 0 };
  const words = { title: `${curve.key}: how far the two are apart`, unit: "" };
  const [first, last] = [Math.max(0, curve.step - BEFORE), curve.step - BEFORE + POINTS - 1];
  const show = async (from: number, to: number): Promise<void> => chart.show(await fetched(curve, from, to));
  const chart = new LineChart({ name: "apart", lines: [line] }, words, look, {
    zoom: (from, to) => void show(from, to),
    log: (_, on) => {
      look.logY = on;
      chart.restyle(look);
    },
  });
  place.append(chart.element);
  place.addEventListener("dblclick", () => void show(first, last));
  document.addEventListener("cairn:theme", () => chart.restyle(look));
  await show(first, last);
}

document.addEventListener("htmx:after:swap", () => void draw());
void draw();
