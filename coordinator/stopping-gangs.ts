/** Keeps the time of gangs that were told to stop. */

import type { Experiment } from "./experiment/experiment.ts";

export class StoppingGangs {
  readonly #timeoutMs: number;
  /** When each of them was first seen to be stopping, by the monotonic clock. */
  readonly #sinceMs = new Map<string, number>();

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Those of `experiments` that have been stopping for longer than the timeout. */
  overdue(experiments: readonly Experiment[], now: number): readonly Experiment[] {
    const stopping = experiments.filter(({ phase }) => phase.status === "stopping");
    const ids = new Set(stopping.map(({ id }) => id));
    for (const id of this.#sinceMs.keys()) if (!ids.has(id)) this.#sinceMs.delete(id);
    return stopping.filter(({ id }) => {
      const sinceMs = this.#sinceMs.get(id) ?? now;
      this.#sinceMs.set(id, sinceMs);
      return now - sinceMs > this.#timeoutMs;
    });
  }
}
