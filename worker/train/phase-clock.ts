/** Where the time of a step goes. */

import { performance } from "node:perf_hooks";
import type { Tracer } from "../trace/tracer.ts";
import { PHASES, type Phase, type PhaseSeconds } from "./stage-job.ts";

/** Adds up where the time of one step goes. */
export class PhaseClock {
  readonly #tracer: Tracer | undefined;
  #mark = performance.now();
  #seconds = emptyPhases();
  #syncNormSeconds: number | undefined;

  constructor(tracer?: Tracer) {
    this.#tracer = tracer;
  }

  /** Books the time since the last call or restart under `phase`. */
  end(phase: Phase): void {
    const now = performance.now();
    this.#seconds[phase] += (now - this.#mark) / 1000;
    this.#tracer?.add(phase, { beginMs: this.#mark, endMs: now });
    this.#mark = now;
  }

  /** A step begins: all sums are zero. */
  restart(): void {
    this.#mark = performance.now();
    this.#seconds = emptyPhases();
    this.#syncNormSeconds = undefined;
  }

  /** Runs an exchange of batch statistics, whose time is part of the phase under way. */
  syncNorms<Result>(exchange: () => Result): Result {
    const began = performance.now();
    try {
      return exchange();
    } finally {
      const seconds = (performance.now() - began) / 1000;
      this.#syncNormSeconds = (this.#syncNormSeconds ?? 0) + seconds;
    }
  }

  /** Of the step's exchanges of batch statistics; undefined when there were none. */
  get syncNormSeconds(): number | undefined {
    return this.#syncNormSeconds;
  }

  /** The sums since the step began. */
  seconds(): PhaseSeconds {
    return this.#seconds;
  }
}

function emptyPhases(): Record<Phase, number> {
  return Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<Phase, number>;
}
