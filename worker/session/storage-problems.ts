/** Storage that fails while a stage goes on: said once when it begins, and once when it is over. */

import type { Log } from "../../proto/log.ts";

/** What is written there while a stage runs. */
export type Written = "checkpoints" | "log";

export class StorageProblems {
  readonly #log: Log;
  readonly #present = new Map<Written, string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Why something cannot be written at present; undefined when everything can. */
  get present(): string | undefined {
    return [...this.#present.values()][0];
  }

  /**
   * @param problem undefined when it was written
   * @param step the last that was taken
   */
  note(what: Written, problem: string | undefined, step: number): void {
    const before = this.#present.get(what);
    if (problem === before) return;
    if (problem === undefined) {
      this.#present.delete(what);
      this.#log.info({ event: "storage works again", step, what, problem: before });
      return;
    }
    this.#present.set(what, problem);
    this.#log.warn({ event: "storage fails; training goes on", step, what, problem });
  }
}
