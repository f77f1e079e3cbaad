// Colours of the charts, taken from the stylesheet so that both themes have one source.

/** Return what a custom property (`--train`) stands for in the current theme, as the canvas understands it. */
export function colour(property: string): string {
  const probe = document.createElement("span");
  probe.className = "offscreen";
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const BY_GROUP: Record<string, string> = { train: "--train", val: "--val", perf: "--perf", "": "--lr", max: "--val", avg: "--train", min: "--perf", test: "--val", frame: "--train" };
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];

/** Return the colour of a line's group. */
export function groupColour(group: string): string {
  return colour(BY_GROUP[group] ?? "--train");
}

/** Return the dash pattern of a task. */
export function dash(task: number): number[] {
  return DASHES[task % DASHES.length] ?? [];
}
