/** Passes over tensors whose last axis is the channels, C. */

import type { Rank } from "@tensorflow/tfjs-core";
import type { Raw, Tfjs } from "../kernels.ts";

/** Floats that one block of {@link columnSums} should have at most. */
const BLOCK_FLOATS = 1 << 16;

/**
 * Sums over all but the last axis.
 *
 * A product with a vector of ones is the fastest reduction there is here. It adds in float32, one
 * after the other, so the rows are folded into about sqrt(rows) blocks that are summed side by
 * side; the blocks are then added in float64. That keeps the error near that of a pairwise sum.
 */
export function columnSums(tf: Tfjs, x: Raw): Float64Array {
  const channels = x.shape.at(-1)!;
  const rows = x.size / channels;
  const blocks = foldFactor(rows, channels);
  const folded = tf.reshape(x, [rows / blocks, blocks * channels]);
  const partial = tf.matMul(tf.ones([1, rows / blocks]), folded).dataSync<"float32">();
  const sums = new Float64Array(channels);
  for (let k = 0; k < partial.length; k++) sums[k % channels]! += partial[k]!;
  return sums;
}

/** x * scale + offset for every channel. */
export function affine(tf: Tfjs, x: Raw, scale: ArrayLike<number>, offset: ArrayLike<number>): Raw {
  const channels = scale.length;
  const y = tf.fused.depthwiseConv2d({
    x: tf.reshape<Rank.R4>(x, [1, x.size / channels, 1, channels]),
    filter: tf.tensor4d(Float32Array.from(scale), [1, 1, channels, 1]),
    bias: tf.tensor1d(Float32Array.from(offset)),
    strides: 1,
    pad: "valid",
  });
  return tf.reshape(y, x.shape);
}

/** The divisor of `rows` next to its square root, as far as the blocks stay small. */
function foldFactor(rows: number, channels: number): number {
  const most = Math.max(1, Math.min(Math.sqrt(rows), BLOCK_FLOATS / channels));
  let factor = Math.floor(most);
  while (rows % factor !== 0) factor--;
  return factor;
}
