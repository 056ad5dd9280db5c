import assert from "node:assert/strict";
import type { OptimizerRecipe } from "../../../proto/recipe.ts";
import { updateOptions } from "../../../worker/optim/update-options.ts";

const lars: OptimizerRecipe = {
  type: "lars",
  lr: 4.8,
  momentum: 0.9,
  weightDecay: 1e-6,
  trustCoefficient: 0.001,
  eps: 1e-8,
  nesterov: false,
  excludeNormAndBias: true,
};
const plain = { lr: 2, momentum: 0.9, nesterov: false, gradientScale: 0.5, weightDecay: 0 };
const adapted = { ...plain, weightDecay: 1e-6, lars: { trustCoefficient: 0.001, eps: 1e-8 } };

describe("update rule", () => {
  for (const role of ["convolution", "linear", "classifier"] as const) {
    it(`adapts and decays a weight of a ${role}`, () => {
      assert.deepEqual(updateOptions(lars, { role }, 2, 0.5), adapted);
    });
  }

  for (const role of ["norm-weight", "norm-bias", "bias"] as const) {
    it(`excludes a ${role} from decay and adaptation`, () => {
      assert.deepEqual(updateOptions(lars, { role }, 2, 0.5), plain);
    });

    it(`treats a ${role} like the others where the recipe excludes nothing`, () => {
      const recipe = { ...lars, excludeNormAndBias: false };
      assert.deepEqual(updateOptions(recipe, { role }, 2, 0.5), adapted);
    });
  }

  it("never adapts in SGD, and excludes from decay on demand", () => {
    const { trustCoefficient: _, eps: __, ...shared } = lars;
    const sgd = { ...shared, type: "sgd", nesterov: true } as const;
    const decayed = { ...plain, nesterov: true, weightDecay: 1e-6 };
    assert.deepEqual(updateOptions(sgd, { role: "convolution" }, 2, 0.5), decayed);
    assert.equal(updateOptions(sgd, { role: "bias" }, 2, 0.5).weightDecay, 0);
    const all = { ...sgd, excludeNormAndBias: false };
    assert.deepEqual(updateOptions(all, { role: "bias" }, 2, 0.5), decayed);
  });
});
