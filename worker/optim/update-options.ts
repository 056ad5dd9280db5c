/** How one parameter is updated: which of weight decay and adaptation apply to it. */

import type { TensorRole, TensorSpec } from "../../proto/model/model-plan.ts";
import type { OptimizerRecipe } from "../../proto/recipe.ts";
import type { UpdateOptions } from "../engine/engine.ts";

const EXCLUDED: ReadonlySet<TensorRole> = new Set(["norm-weight", "norm-bias", "bias"]);

/**
 * With `excludeNormAndBias`, batch-norm parameters and biases get plain momentum SGD without decay,
 * as mmpretrain's `custom_keys` for `bn`, `bias` and `downsample.1` do.
 *
 * @param gradientScale is applied to the gradient before anything else
 */
export function updateOptions(
  optimizer: OptimizerRecipe,
  { role }: Pick<TensorSpec, "role">,
  lr: number,
  gradientScale: number,
): UpdateOptions {
  const isExcluded = optimizer.excludeNormAndBias && EXCLUDED.has(role);
  const { momentum, nesterov, weightDecay } = optimizer;
  const common = {
    lr,
    momentum,
    nesterov,
    gradientScale,
    weightDecay: isExcluded ? 0 : weightDecay,
  };
  if (optimizer.type === "sgd" || isExcluded) return common;
  const { trustCoefficient, eps } = optimizer;
  return { ...common, lars: { trustCoefficient, eps } };
}
