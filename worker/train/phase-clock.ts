/** Where the time of a step goes. */

import { performance } from "node:perf_hooks";
import { PHASES, type Phase, type PhaseSeconds } from "./stage-job.ts";

/** Adds up where the time of one step goes. */
export class PhaseClock {
  #mark = performance.now();
  #seconds = emptyPhases();

  /** Books the time since the last call or restart under `phase`. */
  end(phase: Phase): void {
    const now = performance.now();
    this.#seconds[phase] += (now - this.#mark) / 1000;
    this.#mark = now;
  }

  /** A step begins: all sums are zero. */
  restart(): void {
    this.#mark = performance.now();
    this.#seconds = emptyPhases();
  }

  /** The sums since the step began. */
  seconds(): PhaseSeconds {
    return this.#seconds;
  }
}

function emptyPhases(): Record<Phase, number> {
  return Object.fromEntries(PHASES.map((phase) => [phase, 0])) as Record<Phase, number>;
}
