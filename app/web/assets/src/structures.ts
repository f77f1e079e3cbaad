// The trajectory of a relaxation in three dimensions: loaded when asked for, played, with cell and names of atoms.
import { h, need, pageData } from "./dom";
import type { XyzFrame } from "./extxyz";

interface Run {
  name: string;
  first: number;
  frames: number;
}

const SHOWN_MS = 120;

/** Show what people ask for, also in a section that only appears while the page is open. */
export function followStructures(): void {
  let view: Promise<StructureView> | undefined;
  document.addEventListener("click", (event) => {
    const asked = (event.target as Element).closest<HTMLElement>("#relaxed [data-run]");
    if (!asked) return;
    view ??= open();
    void view.then((opened) => opened.choose(Number(asked.dataset["run"] ?? 0)));
  });
}

async function open(): Promise<StructureView> {
  const place = need("#structure-view");
  place.hidden = false;
  place.replaceChildren(h("p", { class: "muted", role: "status" }, "Loading the trajectory …"));
  const [library, xyz, answer] = await Promise.all([
    import("3dmol/build/3Dmol.es6-min.js"),
    import("./extxyz"),
    fetch(need("#show-structures").dataset["url"] ?? ""),
  ]);
  if (!answer.ok) throw new Error(`The trajectory cannot be read: ${answer.status}`);
  return new StructureView(place, library, pageData<Run[]>("relaxed-runs"), xyz.frames(await answer.text()));
}

type Library = typeof import("3dmol");

/** One run at a time, with a player. */
class StructureView {
  private readonly stage = h("div", { class: "stage", role: "img", "aria-label": "Atoms, to be turned with the mouse" });
  private readonly slider = h("input", { type: "range", min: 0, value: 0, "aria-label": "Frame" });
  private readonly play = h("button", { type: "button", class: "button small" }, "Play");
  private readonly said = h("output", { class: "small" });
  private readonly select: HTMLSelectElement;
  private readonly viewer: ReturnType<Library["createViewer"]>;
  private shown: XyzFrame[] = [];
  private timer: number | undefined;

  constructor(
    place: HTMLElement,
    library: Library,
    private readonly runs: Run[],
    private readonly frames: XyzFrame[],
  ) {
    const options = runs.map((run, index) => h("option", { value: index }, run.name));
    this.select = h("select", { "aria-label": "Run" }, ...options);
    const player = h("div", { class: "player" }, this.select, this.play, this.slider, this.said);
    place.replaceChildren(this.stage, player);
    this.viewer = library.createViewer(this.stage, { backgroundColor: "white" });
    // Straight along an axis, a crystal's atoms hide one another.
    this.viewer.rotate(25, "y");
    this.viewer.rotate(15, "x");
    this.select.addEventListener("change", () => this.choose(Number(this.select.value)));
    this.slider.addEventListener("input", () => this.draw(Number(this.slider.value)));
    this.play.addEventListener("click", () => this.toggle());
  }

  /** Show a run from its first frame. */
  choose(index: number): void {
    const run = this.runs[index];
    if (!run) return;
    this.stop();
    this.select.value = String(index);
    this.shown = this.frames.slice(run.first, run.first + run.frames);
    this.slider.max = String(this.shown.length - 1);
    this.draw(0);
    this.viewer.zoomTo();
    this.viewer.zoom(0.9);
    this.viewer.render();
    this.stage.scrollIntoView({ block: "nearest" });
  }

  private draw(at: number): void {
    const frame = this.shown[at];
    if (!frame) return;
    this.slider.value = String(at);
    this.viewer.removeAllModels();
    this.viewer.removeAllShapes();
    this.viewer.removeAllLabels();
    const model = this.viewer.addModel(frame.text, "xyz");
    model.setStyle({}, { sphere: { scale: 0.3 }, stick: { radius: 0.12 } });
    if (frame.cell) this.drawCell(frame.cell);
    this.viewer.setHoverable({}, true, (atom: Atom) => this.name(atom), () => this.viewer.removeAllLabels());
    this.viewer.render();
    const energy = frame.energy === null ? "" : ` · ${frame.energy.toFixed(6)} eV`;
    this.said.textContent = `frame ${at} of ${this.shown.length - 1}${energy}`;
  }

  private drawCell(cell: number[]): void {
    const [a, b, c] = [0, 3, 6].map((at) => cell.slice(at, at + 3)) as [number[], number[], number[]];
    for (const [edge, one, other] of [[a, b, c], [b, a, c], [c, a, b]] as const) {
      for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]] as const) {
        const start = point(one.map((value, axis) => i * value + j * (other[axis] ?? 0)));
        const end = { x: start.x + (edge[0] ?? 0), y: start.y + (edge[1] ?? 0), z: start.z + (edge[2] ?? 0) };
        this.viewer.addLine({ start, end, color: "gray" });
      }
    }
  }

  private name(atom: Atom): void {
    this.viewer.removeAllLabels();
    const position = { x: atom.x, y: atom.y, z: atom.z };
    this.viewer.addLabel(`${atom.elem} ${atom.index}`, { position, fontSize: 13, backgroundOpacity: 0.75 });
  }

  private toggle(): void {
    if (this.timer !== undefined) return this.stop();
    const last = this.shown.length - 1;
    if (Number(this.slider.value) >= last) this.draw(0);
    this.play.textContent = "Pause";
    this.timer = window.setInterval(() => {
      const next = Number(this.slider.value) + 1;
      if (next > last) this.stop();
      else this.draw(next);
    }, SHOWN_MS);
  }

  private stop(): void {
    window.clearInterval(this.timer);
    this.timer = undefined;
    this.play.textContent = "Play";
  }
}

interface Atom {
  elem: string;
  index: number;
  x: number;
  y: number;
  z: number;
}

function point(values: readonly number[]): { x: number; y: number; z: number } {
  return { x: values[0] ?? 0, y: values[1] ?? 0, z: values[2] ?? 0 };
}
