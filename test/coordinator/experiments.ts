/** Experiments to test with. */

import type { Experiment, StageProgress } from "../../coordinator/experiment/experiment.ts";
import type { StageName } from "../../proto/recipe.ts";
import { worldSizes } from "../../proto/world-sizes.ts";
import type { Prng } from "../support/prng.ts";

/** A waiting experiment; `workers` of pretrain, then of linear: its ranks, or its world sizes. */
export function newExperiment(options: {
  readonly workers: readonly (number | readonly number[])[];
  readonly waitMs?: number;
  readonly id?: string;
  readonly priority?: number;
  readonly submittedUnixMs?: number;
}): Experiment {
  const names: readonly StageName[] = ["pretrain", "linear"];
  return {
    id: options.id ?? "test-000001",
    name: "test",
    recipeName: "test",
    priority: options.priority ?? 0,
    stages: options.workers.map((workers, index) => {
      const sizes = typeof workers === "number" ? [workers] : workers;
      const ranks = sizes[0] ?? 0;
      return { name: names[index] ?? "linear", ranks, sizes, waitMs: options.waitMs ?? 30_000 };
    }),
    stageIndex: 0,
    generation: 0,
    lastGang: [],
    restarts: { failure: 0, preemption: 0, membership: 0 },
    maxRestarts: 3,
    fruitlessRestarts: 0,
    furthestStep: 0,
    lostSteps: 0,
    stragglerFactor: 2,
    submittedUnixMs: options.submittedUnixMs ?? 0,
    results: {},
    timeline: [],
    curves: {},
    phase: { status: "waiting", reason: "" },
  };
}

/** World sizes of a stage; half of the stages may have fewer workers than ranks. */
export function drawSizes(prng: Prng, ranksMax: number): readonly number[] {
  const ranks = prng.int(1, ranksMax);
  return worldSizes(ranks, prng.chance(0.5) ? { minWorkers: 1 } : {});
}

/** A report of rank 0 in which only the step means something. */
export function progressOf(stage: StageName, step: number): StageProgress {
  return {
    stage,
    step,
    stepsTotal: 1_000,
    epoch: step / 100,
    epochsTotal: 10,
    loss: 4.5,
    lr: 0.3,
    imagesPerSecond: 120,
    etaSeconds: 60,
    skippedImages: 0,
  };
}
