/** How far a model's tensor is from where it should be. */

import assert from "node:assert/strict";
import type { TensorArray } from "../../worker/checkpoint/element-types.ts";

/**
 * Largest difference, in units of the tensor's largest value. Biases and running means start at
 * zero and live on the scale of normalised activations, which is 1.
 */
export function worstError(
  name: string,
  expected: TensorArray,
  actual: TensorArray | undefined,
): number {
  assert.equal(actual?.length, expected.length, name);
  const values = Array.from(expected, Number);
  const startsAtZero = /\.(bias|running_mean)$/.test(name);
  const scale = Math.max(...values.map(Math.abs), startsAtZero ? 1 : 0);
  const difference = values.map((value, k) => Math.abs(Number(actual?.[k]) - value));
  return Math.max(...difference) / scale;
}
