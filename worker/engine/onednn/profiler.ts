/** Where the engine's time goes, by operation. */

import { performance } from "node:perf_hooks";
import type { OperationProfile } from "../engine.ts";

export interface Operation {
  /** e.g. "convolution [16,64,56,56] * [256,64,1,1]". */
  readonly name: string;
  readonly implementation: string;
  /** Multiplications and additions. */
  readonly flops: number;
}

interface Tally {
  calls: number;
  seconds: number;
}

export class Profiler {
  readonly isOn: boolean;
  readonly #tallies = new Map<string, Tally & { readonly operation: Operation }>();

  constructor(isOn: boolean) {
    this.isOn = isOn;
  }

  measure(operation: Operation, body: () => void): void {
    if (!this.isOn) {
      body();
      return;
    }
    const began = performance.now();
    body();
    const seconds = (performance.now() - began) / 1000;
    const key = `${operation.name} ${operation.implementation}`;
    const tally = this.#tallies.get(key) ?? { calls: 0, seconds: 0, operation };
    tally.calls += 1;
    tally.seconds += seconds;
    this.#tallies.set(key, tally);
  }

  /** What was measured since the last call. */
  take(): readonly OperationProfile[] {
    const profiles = [...this.#tallies.values()].map(({ operation, calls, seconds }) => ({
      operation: operation.name,
      implementation: operation.implementation,
      calls,
      seconds,
      flops: calls * operation.flops,
    }));
    this.#tallies.clear();
    return profiles;
  }
}
