/**
 * Weights and inputs of the reference cases: they follow from a seed and a name, and are not
 * stored.
 */

import { elementCount, type TensorSpec } from "../../proto/model/model-plan.ts";

const NORM_WEIGHT_BOUND = 0.2;
const NORM_BIAS_BOUND = 0.1;

/** Uniform values in [-bound, bound): mulberry32, seeded by FNV-1a 32 of `seed:name`. */
export function fillUniform(
  seed: number,
  name: string,
  count: number,
  bound: number,
): Float32Array {
  const next = mulberry32(fnv1a32(`${seed}:${name}`));
  return Float32Array.from({ length: count }, () => (2 * next() - 1) * bound);
}

/** The value that a tensor of the model starts from. */
export function fillTensor(seed: number, { name, shape, role }: TensorSpec): Float32Array {
  const count = elementCount(shape);
  switch (role) {
    case "convolution": {
      const [outputs, , height, width] = shape as [number, number, number, number];
      return fillUniform(seed, name, count, Math.sqrt(6 / (outputs * height * width)));
    }
    case "linear":
    case "classifier":
      return fillUniform(seed, name, count, 1 / Math.sqrt(shape[1]!));
    case "norm-weight":
      return fillUniform(seed, name, count, NORM_WEIGHT_BOUND).map((value) => 1 + value);
    case "norm-bias":
      return fillUniform(seed, name, count, NORM_BIAS_BOUND);
    case "bias":
    case "running-mean":
      return new Float32Array(count);
    case "running-variance":
      return new Float32Array(count).fill(1);
  }
}

function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return hash >>> 0;
}

function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
