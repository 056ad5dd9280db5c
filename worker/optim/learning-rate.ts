/** The learning rate at a step, in closed form: a resumed run needs no history. */

import assert from "node:assert/strict";
import type { ScheduleRecipe } from "../../proto/recipe.ts";

export interface TrainingLength {
  /** The rate that warm-up reaches and decay starts from. */
  readonly baseLr: number;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
}

/**
 * mmengine's LinearLR for warm-up, whose last step has the full rate, then CosineAnnealingLR. With
 * `decayPer: "epoch"` the rate is constant within an epoch; with "step" the cosine is continuous.
 *
 * @param step 0-based, over the whole stage
 */
export function learningRateAt(
  schedule: ScheduleRecipe,
  { baseLr, epochs, stepsPerEpoch }: TrainingLength,
  step: number,
): number {
  assert.ok(step >= 0);
  assert.ok(step < epochs * stepsPerEpoch, "the step is within the schedule");
  const { warmupEpochs, warmupStartFactor, decay, decayPer, minLr } = schedule;

  const warmupSteps = Math.round(warmupEpochs * stepsPerEpoch);
  if (step < warmupSteps) {
    const progress = warmupSteps > 1 ? step / (warmupSteps - 1) : 1;
    return baseLr * (warmupStartFactor + (1 - warmupStartFactor) * progress);
  }
  if (decay === "constant") return baseLr;

  const elapsed = decayPer === "epoch" ? Math.floor(step / stepsPerEpoch) : step / stepsPerEpoch;
  // A warm-up may end within an epoch; until the next one begins the rate stays at its peak.
  const progress = Math.max(0, elapsed - warmupEpochs) / (epochs - warmupEpochs);
  return minLr + ((baseLr - minLr) / 2) * (1 + Math.cos(Math.PI * progress));
}
