// What a job starts from: mode, base, branch, and the differences that are allowed.
import { Chips } from "./chips";
import { h, need } from "./dom";

export interface Base {
  words: string;
  branches: string[];
}

export interface StartData {
  bases: Record<string, Base>;
  branch: string | Record<string, string> | null;
  allow: string[];
}

/** The card on which the start is chosen. `changed` is called when what it says has changed by more than typing. */
export class StartCard {
  private readonly allowed: Chips;
  private readonly branch = need<HTMLSelectElement>("select[name=branch]");
  private known = "";

  constructor(
    private readonly form: HTMLFormElement,
    private readonly data: StartData,
    changed: () => void,
  ) {
    const place = { list: need("#allowed"), input: need<HTMLInputElement>("#allow-key"), button: need("#allow-add") };
    this.allowed = new Chips({ ...place, removal: (key) => `Do not allow ${key}` }, data.allow, changed);
    this.describeBase(data.branch);
    need("[name=base]").addEventListener("input", () => this.describeBase(null));
  }

  get mode(): string {
    return this.field("mode");
  }

  /** Return the start as a submission says it; undefined for one from seeds. */
  value(): Record<string, unknown> | undefined {
    if (this.mode === "scratch") return undefined;
    const branch = this.field("branch");
    const common = { mode: this.mode, base: this.field("base") || undefined, branch: branch ? JSON.parse(branch) : undefined };
    if (this.mode === "resume") return common;
    const fitting = this.field("fitting");
    return {
      ...common,
      fitting: fitting ? JSON.parse(fitting) : undefined,
      on_mismatch: this.field("on_mismatch"),
      allow: this.allowed.values,
    };
  }

  /** Allow differences at a key, and everything below it. */
  allow(key: string): void {
    this.allowed.add(key);
  }

  private field(name: string): string {
    return String(new FormData(this.form).get(name) ?? "").trim();
  }

  /** Say what the chosen base is, and offer its branches if it has several. */
  private describeBase(branch: StartData["branch"]): void {
    const name = this.field("base");
    if (name === this.known) return;
    this.known = name;
    const base = this.data.bases[name] ?? this.newest(name);
    need("#base-words").textContent = base?.words ?? "";
    const names = base && base.branches.length > 1 ? base.branches : [];
    const options = names.map((one) => h("option", { value: JSON.stringify(one), selected: one === branch }, one));
    if (branch && typeof branch === "object") {
      const words = Object.entries(branch).map(([task, of]) => `${task} from ${of}`);
      options.unshift(h("option", { value: JSON.stringify(branch), selected: true }, words.join(", ")));
    } else if (branch && !names.includes(branch)) {
      options.unshift(h("option", { value: JSON.stringify(branch), selected: true }, branch));
    }
    this.branch.replaceChildren(h("option", { value: "" }, "as the task is called, or the only one"), ...options);
    need("#branch-field").hidden = options.length === 0;
  }

  /** A name without a version means its newest one: the offers begin with the newest. */
  private newest(name: string): Base | undefined {
    const ref = Object.keys(this.data.bases).find((one) => one.startsWith(`${name}@`));
    return ref ? this.data.bases[ref] : undefined;
  }
}
