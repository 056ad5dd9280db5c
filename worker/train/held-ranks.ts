/**
 * A recipe's ranks on the workers that there are.
 *
 * What a recipe trains is decided by its own number of workers: its ranks. With fewer workers, each
 * holds as many consecutive ranks: batches, order and loss stay the recipe's.
 */

import { FleetError } from "../../proto/errors.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";

/**
 * How many ranks of a stage each of so many workers holds.
 *
 * @throws {FleetError} USAGE when the workers cannot have equally many
 */
export function ranksPerWorker(recipe: Recipe, stage: StageName, workers: number): number {
  const ranks = recipe[stage].workers;
  if (ranks % workers === 0) return ranks / workers;
  throw new FleetError(
    "USAGE",
    `the ${stage} stage of ${recipe.name} has ${ranks} ranks, which ${workers} workers cannot ` +
      "share evenly: their number must divide it",
    { ranks, workers },
  );
}
