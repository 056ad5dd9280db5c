/** Sees to it that gangs which were told to stop come apart, whatever their members do. */

import { type Experiment, holdersOf } from "../experiment/experiment.ts";
import { forsakenOf } from "../experiment/experiment-stopping.ts";
import type { Ledger } from "./ledger.ts";
import type { Roster } from "./roster.ts";

export interface StoppingGangsOptions {
  readonly ledger: Ledger;
  readonly roster: Roster;
  /** So long a gang may take to finish its step together, then it has to give the step up. */
  readonly boundaryTimeoutMs: number;
  /** So long it may take after that, then its laggards have to join the fleet again. */
  readonly timeoutMs: number;
}

export class StoppingGangs {
  readonly #options: StoppingGangsOptions;
  /** What each of them was told last, and when that was first seen, by the monotonic clock. */
  readonly #told = new Map<string, { readonly isSoft: boolean; readonly sinceMs: number }>();

  constructor(options: StoppingGangsOptions) {
    this.#options = options;
  }

  tick(now: number): void {
    const { ledger, boundaryTimeoutMs: afterMs, timeoutMs } = this.#options;
    for (const { id, phase } of ledger.all()) {
      if (phase.status !== "stopping") {
        this.#told.delete(id);
        continue;
      }
      const isSoft = phase.mode.atStepBoundary;
      const known = this.#told.get(id);
      const told = known?.isSoft === isSoft ? known : { isSoft, sinceMs: now };
      this.#told.set(id, told);
      const elapsedMs = now - told.sinceMs;
      if (isSoft && elapsedMs > afterMs) ledger.apply(id, { type: "stop-overdue", afterMs });
      if (!isSoft && elapsedMs > timeoutMs) this.#evictLaggards(ledger.get(id));
    }
  }

  /**
   * Does not wait for the lease of a worker whose connection is broken when its peers have lost it,
   * too: it is not training any more.
   */
  evictForsaken(experimentId: string): void {
    const experiment = this.#options.ledger.find(experimentId);
    if (!experiment) return;
    for (const worker of forsakenOf(experiment)) {
      const member = this.#heldBy(worker, experiment.generation);
      if (member?.status !== "busy" || member.isConnected) continue;
      const because = "its connection closed, and its peers have lost contact with it";
      this.#options.roster.apply(worker, { type: "evicted", because });
    }
  }

  #evictLaggards(experiment: Experiment): void {
    const { ledger, roster, timeoutMs } = this.#options;
    const { id, generation } = experiment;
    const because = `it did not stop in ${timeoutMs} ms`;
    for (const worker of holdersOf(experiment).keys()) {
      if (this.#heldBy(worker, generation)) {
        roster.apply(worker, { type: "evicted", because });
      } else {
        const name = roster.nameOf(worker);
        ledger.apply(id, { type: "lost", generation, worker, name, because });
      }
    }
  }

  #heldBy(worker: string, generation: number) {
    const member = this.#options.roster.get(worker);
    const isHeld = member?.status === "busy" && member.assignment.generation === generation;
    return isHeld ? member : undefined;
  }
}
