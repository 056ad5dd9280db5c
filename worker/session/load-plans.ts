/** What the loader threads are asked for, from a recipe and a rank's place in the gang. */

import type { Recipe, StageName } from "../../proto/recipe.ts";
import type { LoadPlan, ValidationPlan } from "../data/load-plan.ts";
import { ranksPerWorker } from "../train/held-ranks.ts";

/** Of a worker among workers. */
export interface Place {
  readonly rank: number;
  readonly worldSize: number;
  readonly startStep: number;
}

/** Of all the recipe's ranks that the worker holds. */
export function trainPlan(recipe: Recipe, stage: StageName, place: Place): LoadPlan {
  const { data, seed, pretrain, linear } = recipe;
  const { imageSize, scaledDecoding, skipLimit } = data;
  const ranks = ranksPerWorker(recipe, stage, place.worldSize);
  const held = { rank: place.rank * ranks, ranks, worldSize: recipe[stage].workers };
  const { startStep } = place;
  const common = { ...held, startStep, seed, imageSize, scaledDecoding, skipLimit };
  if (stage === "pretrain") {
    const { batchPerWorker, epochs, dropLast, augmentation } = pretrain;
    return { ...common, kind: "pretrain", batchPerWorker, epochs, dropLast, augmentation };
  }
  const { batchPerWorker, epochs, dropLast, crop, flip } = linear;
  return { ...common, kind: "linear", batchPerWorker, epochs, dropLast, crop, flip };
}

/** As many passes as the stage will still validate. */
export function validationPlan(recipe: Recipe, place: Place): ValidationPlan {
  const { data, seed, linear } = recipe;
  const { batchPerWorker, resizeEdge, everyEpochs } = linear.validation;
  return {
    rank: place.rank,
    worldSize: place.worldSize,
    seed,
    imageSize: data.imageSize,
    scaledDecoding: data.scaledDecoding,
    skipLimit: data.skipLimit,
    kind: "validation",
    batchPerWorker,
    resizeEdge,
    passes: Math.ceil(linear.epochs / everyEpochs) + 1,
  };
}

/**
 * One pass over at most `limit` images, as validation sees them. Unreadable ones are left out,
 * however many there are: what only looks on ends no training.
 */
export function monitorPlan(recipe: Recipe, place: Place, limit: number): ValidationPlan {
  const plan = validationPlan(recipe, place);
  return { ...plan, limit, passes: 1, skipLimit: Number.MAX_SAFE_INTEGER };
}
