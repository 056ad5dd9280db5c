/**
 * What it costs to look for NaN and for replicas that differ: steps without, with the first, and
 * with both take turns within one run, so that what else the machine does hits all of them.
 */

import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import type { CheckKind, StageContext } from "../../../worker/train/stage-context.ts";
import { median, round } from "./measurement.ts";

/** The checks of a step, by its number after the warm-up. */
const TURNS: readonly (readonly CheckKind[])[] = [[], ["numbers"], ["numbers", "replicas"]];

/** Fewest steps that have each kind among them. */
export const STEPS_PER_TURN = TURNS.length;

/** Seconds on rank 0; of a step from the beginning of one to that of the next. */
export interface CheckCosts {
  /** Steps without any check. */
  readonly step_s: number;
  /** Inside the checks of a step's numbers, and inside a comparison of replicas. */
  readonly numbers_s: number;
  readonly replicas_s: number;
  /** Steps with checked numbers by the steps without, before each of them: the middle ratio. */
  readonly numbers_ratio: number;
  /** The checks' part of the time, comparisons as often as a recipe has them that does not say. */
  readonly overhead: number;
}

interface Step {
  readonly beganMs: number;
  readonly spentMs: Record<CheckKind, number>;
}

export class CheckClock {
  readonly #warmup: number;
  readonly #steps: Step[] = [];

  /** @param warmup steps at the beginning that have all checks and do not count */
  constructor(warmup: number) {
    this.#warmup = warmup;
  }

  /** A step begins, or the last one has ended. */
  beginStep(): void {
    this.#steps.push({ beganMs: performance.now(), spentMs: { numbers: 0, replicas: 0 } });
  }

  /** For {@link StageContext}: runs a check in the steps whose turn it is. */
  readonly runCheck: NonNullable<StageContext["runCheck"]> = (kind, check) => {
    const step = this.#steps.at(-1);
    assert.ok(step, "checks belong to a step");
    const index = this.#steps.length - 1 - this.#warmup;
    if (index >= 0 && !TURNS[index % TURNS.length]?.includes(kind)) return;
    const began = performance.now();
    check();
    step.spentMs[kind] += performance.now() - began;
  };

  /** @param everySteps how often replicas are compared */
  costs(everySteps: number): CheckCosts {
    const measured = this.#measured();
    const of = (turn: number) => measured.filter((_, index) => index % TURNS.length === turn);
    const [bare, counted, compared] = [of(0), of(1), of(2)];
    const step_s = median(bare.map(({ seconds }) => seconds));
    const numbers_s = median([...counted, ...compared].map(({ numbers }) => numbers));
    const replicas_s = median(compared.map(({ replicas }) => replicas));
    const ratios = counted.map(({ seconds }, turn) => seconds / bare[turn]!.seconds);
    return {
      step_s: round(step_s, 6),
      numbers_s: round(numbers_s, 6),
      replicas_s: round(replicas_s, 6),
      numbers_ratio: round(median(ratios), 4),
      overhead: round((numbers_s + replicas_s / everySteps) / step_s, 6),
    };
  }

  /** The steps after the warm-up, in seconds: of the step, and of the checks in it. */
  #measured() {
    const steps = this.#steps.slice(this.#warmup, -1);
    return steps.map(({ beganMs, spentMs }, index) => ({
      seconds: (this.#steps[this.#warmup + index + 1]!.beganMs - beganMs) / 1000,
      numbers: spentMs.numbers / 1000,
      replicas: spentMs.replicas / 1000,
    }));
  }
}
