/** What scheduling needs of a recipe. Pure. */

import type { Recipe } from "../../proto/recipe.ts";
import { worldSizes } from "../../proto/world-sizes.ts";
import type { StagePlan } from "./experiment.ts";

export function toStagePlans(recipe: Recipe): readonly StagePlan[] {
  const { elastic, stages } = recipe;
  return stages.map((name) => {
    const ranks = recipe[name].workers;
    return { name, ranks, sizes: worldSizes(ranks, elastic), waitMs: elastic.waitSeconds * 1_000 };
  });
}
