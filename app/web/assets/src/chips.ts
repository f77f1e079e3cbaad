// Short texts that are gathered one by one, and can each be taken away again.
import { h } from "./dom";

/** Where they are shown and typed, and what is said of them. */
export interface ChipsPlace {
  list: HTMLElement;
  input: HTMLInputElement;
  button: HTMLElement;
  /** What the button that takes one away is called. */
  removal: (text: string) => string;
}

export class Chips {
  private readonly texts: Set<string>;

  /** `changed` is called when one has come or gone. */
  constructor(
    private readonly place: ChipsPlace,
    texts: string[],
    private readonly changed: () => void,
  ) {
    this.texts = new Set(texts);
    this.show();
    place.button.addEventListener("click", () => this.take());
    place.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.take();
    });
    // What was typed and left standing is meant, too.
    place.input.addEventListener("change", () => this.take());
  }

  /** All of them; undefined when there is none. */
  get values(): string[] | undefined {
    return this.texts.size ? [...this.texts] : undefined;
  }

  add(text: string): void {
    this.texts.add(text);
    this.show();
    this.changed();
  }

  private take(): void {
    const text = this.place.input.value.trim();
    this.place.input.value = "";
    if (text) this.add(text);
  }

  private remove(text: string): void {
    this.texts.delete(text);
    this.show();
    this.place.input.focus();
    this.changed();
  }

  private show(): void {
    this.place.list.replaceChildren(
      ...[...this.texts].map((text) => {
        const button = h("button", { type: "button", "aria-label": this.place.removal(text) }, "×");
        button.addEventListener("click", () => this.remove(text));
        return h("li", { class: "tag" }, h("code", {}, text), button);
      }),
    );
  }
}
