// What a job starts from: mode, base, branch, and the differences that are allowed.
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
  private readonly allowed: Set<string>;
  private readonly branch = need<HTMLSelectElement>("select[name=branch]");
  private known = "";

  constructor(
    private readonly form: HTMLFormElement,
    private readonly data: StartData,
    private readonly changed: () => void,
  ) {
    this.allowed = new Set(data.allow);
    this.showAllowed();
    this.describeBase(data.branch);
    need("[name=base]").addEventListener("input", () => this.describeBase(null));
    need("#allow-add").addEventListener("click", () => this.takeKey());
    need("#allow-key").addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.takeKey();
    });
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
      allow: this.allowed.size ? [...this.allowed] : undefined,
    };
  }

  /** Allow differences at a key, and everything below it. */
  allow(key: string): void {
    this.allowed.add(key);
    this.showAllowed();
    this.changed();
  }

  private field(name: string): string {
    return String(new FormData(this.form).get(name) ?? "").trim();
  }

  private takeKey(): void {
    const input = need<HTMLInputElement>("#allow-key");
    const key = input.value.trim();
    input.value = "";
    if (key) this.allow(key);
  }

  private forbid(key: string): void {
    this.allowed.delete(key);
    this.showAllowed();
    need("#allow-key").focus();
    this.changed();
  }

  private showAllowed(): void {
    need("#allowed").replaceChildren(
      ...[...this.allowed].map((key) => {
        const remove = h("button", { type: "button", "aria-label": `Do not allow ${key}` }, "×");
        remove.addEventListener("click", () => this.forbid(key));
        return h("li", { class: "tag" }, h("code", {}, key), remove);
      }),
    );
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
