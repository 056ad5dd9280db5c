/**
 * Writes curves behind, at a rate of its own: they grow with every report, and what a crash loses
 * of them is a few points of a chart.
 */

import type { Curves } from "../experiment/curves.ts";

const WRITE_MS = 5_000;

export class CurveWriter {
  readonly #write: (id: string, curves: Curves) => Promise<void>;
  /** As they are in Redis, and as they are to be. */
  readonly #written = new Map<string, Curves>();
  readonly #due = new Map<string, Curves>();
  readonly #timer: NodeJS.Timeout;
  #writing: Promise<void> | undefined;

  constructor(write: (id: string, curves: Curves) => Promise<void>) {
    this.#write = write;
    this.#timer = setInterval(() => void this.flush(), WRITE_MS);
    this.#timer.unref();
  }

  /** Takes the newest curves of an experiment. */
  offer(id: string, curves: Curves): void {
    if (this.#written.get(id) !== curves) this.#due.set(id, curves);
  }

  /** What somebody else has written or read. */
  isWritten(id: string, curves: Curves): void {
    this.#written.set(id, curves);
    this.#due.delete(id);
  }

  forget(id: string): void {
    this.#written.delete(id);
    this.#due.delete(id);
  }

  /** Writes what is due; what Redis does not take now is due again. */
  async flush(): Promise<void> {
    this.#writing ??= this.#writeDue().finally(() => {
      this.#writing = undefined;
    });
    await this.#writing;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #writeDue(): Promise<void> {
    for (const [id, curves] of [...this.#due]) {
      try {
        await this.#write(id, curves);
      } catch {
        // The connection itself reports an outage, and the leadership that it is lost.
        return;
      }
      this.#written.set(id, curves);
      if (this.#due.get(id) === curves) this.#due.delete(id);
    }
  }
}
