/** How long the steps of a run took. Pure. */

import { figureOf, type ScalarRow } from "../../proto/charts/read-scalars.ts";

export interface StepTimes {
  readonly steps: number;
  readonly stepSeconds: {
    readonly mean: number;
    readonly median: number;
    readonly min: number;
    readonly max: number;
  };
  /** By the mean of their steps; the first epoch is 1. */
  readonly slowestEpoch: EpochTime;
  readonly fastestEpoch: EpochTime;
  /** Over the gang, of all steps together. */
  readonly imagesPerSecond: number;
}

interface EpochTime {
  readonly epoch: number;
  readonly meanStepSeconds: number;
}

interface Step {
  readonly epoch: number;
  readonly seconds: number;
  readonly images: number;
}

/** @returns undefined when the run logged no step with its time */
export function stepTimes(rows: readonly ScalarRow[]): StepTimes | undefined {
  const steps = rows.flatMap((row) => {
    const [epoch, seconds] = [figureOf(row, "epoch"), figureOf(row, "step_s")];
    if (epoch === undefined || seconds === undefined) return [];
    const images = (figureOf(row, "images_per_s") ?? 0) * seconds;
    return [{ epoch: Math.ceil(epoch), seconds, images }];
  });
  if (steps.length === 0) return undefined;
  const seconds = Float64Array.from(steps, (step) => step.seconds).sort();
  const total = seconds.reduce((sum, value) => sum + value, 0);
  const epochs = epochTimes(steps);
  return {
    steps: steps.length,
    stepSeconds: {
      mean: total / steps.length,
      median: median(seconds),
      min: seconds[0]!,
      max: seconds.at(-1)!,
    },
    slowestEpoch: epochs.reduce((a, b) => (b.meanStepSeconds > a.meanStepSeconds ? b : a)),
    fastestEpoch: epochs.reduce((a, b) => (b.meanStepSeconds < a.meanStepSeconds ? b : a)),
    imagesPerSecond: total > 0 ? steps.reduce((sum, { images }) => sum + images, 0) / total : 0,
  };
}

function epochTimes(steps: readonly Step[]): EpochTime[] {
  const sums = new Map<number, { seconds: number; steps: number }>();
  for (const { epoch, seconds } of steps) {
    const sum = sums.get(epoch) ?? { seconds: 0, steps: 0 };
    sums.set(epoch, { seconds: sum.seconds + seconds, steps: sum.steps + 1 });
  }
  return [...sums].map(([epoch, sum]) => ({ epoch, meanStepSeconds: sum.seconds / sum.steps }));
}

function median(sorted: Float64Array): number {
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1]! + sorted[Math.floor(middle)]!) / 2;
}
