/** What is measured: one pre-training step, and the recipe that makes the real code run it. */

import type { Recipe } from "../../../proto/recipe.ts";
import { parseRecipe } from "../../../proto/recipe.ts";
import { findRecipe } from "../../../proto/recipes/registry.ts";
import type { Precision } from "../../../worker/engine/engine.ts";

export const ARCHS = ["resnet18", "resnet34", "resnet50"] as const;
export const STEMS = ["imagenet", "cifar"] as const;
export const PRECISIONS = ["f32", "bf16"] as const satisfies readonly Precision[];

/** Largest images for which the small stem is what people use. */
export const CIFAR_SIZE_MAX = 64;

export interface StepSpec {
  readonly engine: string;
  readonly arch: (typeof ARCHS)[number];
  readonly stem: (typeof STEMS)[number];
  /** Edge of the square views in pixels. */
  readonly size: number;
  /** Source images per rank; each is encoded twice. */
  readonly batch: number;
  readonly world: number;
  /** Of each rank's engine. */
  readonly threads: number;
  readonly precision: Precision;
  readonly steps: number;
  /** Steps before the measured ones. */
  readonly warmup: number;
  readonly syncBn: boolean;
  /** Leaves the checks out of some steps, to find what they cost. */
  readonly checks: boolean;
}

const DEPTHS = { resnet18: 18, resnet34: 34, resnet50: 50 } as const;

/** Of all built-in recipes the nearest to the peer's optimizer and loss. */
const BASE = "simclr_resnet50_8xb32-coslr-200e_in1k";

/** How often a recipe that does not say compares replicas. */
export const CHECKSUM_EVERY_STEPS = parseRecipe(findRecipe(BASE)).elastic.checksumEverySteps;

/**
 * The recipe of the peer's step: LARS at a constant rate of 0.3, temperature 0.1, gradients
 * averaged as DistributedDataParallel does.
 *
 * @throws {FleetError} RECIPE_INVALID when the network cannot take such images, or there are no
 *   negatives
 */
export function stepRecipe(spec: StepSpec): Recipe {
  const base = findRecipe(BASE);
  return parseRecipe({
    ...base,
    name: "bench-step",
    stages: ["pretrain"],
    model: {
      depth: DEPTHS[spec.arch],
      stem: spec.stem,
      zeroInitResidual: false,
      neck: { out: 128 },
    },
    data: { ...base.data, imageSize: spec.size },
    pretrain: {
      ...base.pretrain,
      workers: spec.world,
      batchPerWorker: spec.batch,
      epochs: 1,
      syncBatchNorm: spec.syncBn,
      temperature: 0.1,
      gradientScale: "mmpretrain",
      optimizer: { type: "lars", lr: 0.3, momentum: 0.9, weightDecay: 1e-6 },
      schedule: { warmupEpochs: 0, decay: "constant" },
    },
    elastic: spec.checks ? { checksumEverySteps: 1 } : {},
    // Not run; but a recipe must be sound as a whole.
    linear: { ...base.linear, validation: { resizeEdge: Math.max(256, spec.size) } },
  });
}

/** Steps that run: with these the batches end. */
export function stepsRun({ warmup, steps }: StepSpec): number {
  return warmup + steps;
}

/**
 * Size of the pretended data set. Its single epoch is one step longer than the run, because the
 * last step of a stage writes a checkpoint, which is no part of a step.
 */
export function imagesPretended(spec: StepSpec): number {
  return (stepsRun(spec) + 1) * spec.world * spec.batch;
}
