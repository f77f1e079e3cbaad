// The end of a job's log, followed while it grows.
import { ApiError } from "./api";
import { CHANGE } from "./live";

/** Characters kept on the page. */
const TAIL = 200_000;

/** Follows the log that `place` shows the end of: where it stands and where to ask are in its data attributes. */
export class LogTail {
  private attempt: string;
  private position: number;
  private busy = false;
  private again = false;
  /** One for the whole log: a character may be cut in two by a piece's end. */
  private decoder = new TextDecoder();

  constructor(private readonly place: HTMLElement) {
    this.attempt = place.dataset["attempt"] ?? "0";
    this.position = Number(place.dataset["offset"] ?? 0);
  }

  /** Scroll to the end, and add what comes. */
  start(): void {
    this.place.scrollTop = this.place.scrollHeight;
    document.body.addEventListener(CHANGE, () => void this.fetchMore());
    void this.fetchMore();
  }

  private atEnd(): boolean {
    return this.place.scrollHeight - this.place.scrollTop - this.place.clientHeight < 24;
  }

  /** Add text, stay at the end if the view was there, and forget what is far above. */
  private append(text: string): void {
    const follow = this.atEnd();
    this.place.append(text);
    const all = this.place.textContent ?? "";
    if (all.length > TAIL) this.place.textContent = all.slice(all.indexOf("\n", all.length - TAIL) + 1);
    if (follow) this.place.scrollTop = this.place.scrollHeight;
  }

  private async take(response: Response): Promise<void> {
    const bytes = await response.arrayBuffer();
    this.position += bytes.byteLength;
    if (bytes.byteLength) this.append(this.decoder.decode(bytes, { stream: true }));
    if (this.position < Number(response.headers.get("X-Log-Size") ?? 0)) this.again = true;
  }

  /** A new attempt writes a log of its own. */
  private startOver(attempt: string): void {
    this.attempt = attempt;
    this.position = 0;
    this.decoder = new TextDecoder();
    this.place.textContent = "";
    this.again = true;
  }

  private async fetchMore(): Promise<void> {
    this.again = this.busy;
    if (this.busy) return;
    this.busy = true;
    try {
      const response = await fetch(`${this.place.dataset["url"]}?offset=${this.position}`, { credentials: "same-origin" });
      if (!response.ok) throw new ApiError(response.status, []);
      const attempt = response.headers.get("X-Attempt") ?? this.attempt;
      if (attempt === this.attempt) await this.take(response);
      else this.startOver(attempt);
    } catch {
      // The next change asks again; the mark in the header says when the server does not answer.
    } finally {
      this.busy = false;
      if (this.again) void this.fetchMore();
    }
  }
}
