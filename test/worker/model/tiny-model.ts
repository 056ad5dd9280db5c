/** Models small enough for finite differences, and random inputs for them. */

import type { ModelRecipe } from "../../../proto/recipe.ts";
import type { ModelState } from "../../../worker/model/model-state.ts";
import { Prng } from "../../support/prng.ts";

export const tinyRecipe: ModelRecipe = {
  depth: 18,
  width: 1 / 32,
  stem: "cifar",
  zeroInitResidual: false,
  normEps: 1e-5,
  normMomentum: 0.1,
  neck: { out: 4 },
};

/** Uniform in (-1, 1). */
export function randomFloats(seed: number, count: number): Float32Array {
  const prng = new Prng(seed);
  return Float32Array.from({ length: count }, () => 2 * prng.next() - 1);
}

/** A copy with the values of one tensor replaced. */
export function withTensor(state: ModelState, name: string, data: Float32Array): ModelState {
  const { shape } = state.tensors.get(name)!;
  return { ...state, tensors: new Map([...state.tensors, [name, { shape, data }]]) };
}

/** A copy in which every norm's weight and bias are random, so that none of them hides a defect. */
export function withRandomNorms(state: ModelState): ModelState {
  let next = state;
  for (const [index, [name, { data }]] of [...state.tensors].entries()) {
    const noise = randomFloats(index, data.length);
    if (/(bn\d|downsample\.1)\.weight$/.test(name)) {
      next = withTensor(
        next,
        name,
        noise.map((v) => 1 + 0.3 * v),
      );
    }
    if (/(bn\d|downsample\.1)\.bias$/.test(name)) {
      next = withTensor(
        next,
        name,
        noise.map((v) => 0.3 * v),
      );
    }
  }
  return next;
}
