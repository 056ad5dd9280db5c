/** Passes over tensors whose last axis is the channels, C. */

import type { Rank } from "@tensorflow/tfjs-core";
import type { Raw, Tfjs } from "../kernels.ts";
import { heapView, type WasmDevice } from "./device.ts";

/**
 * Sums of x over all but the last axis, in float64.
 *
 * JavaScript on the backend's memory does it in 1 ns an element. The backend itself needs 3, and
 * so does a product with a vector of ones, which packs its right operand first.
 */
export function columnSums(device: WasmDevice, x: Raw): Float64Array {
  const values = heapView(device, x);
  const channels = x.shape.at(-1)!;
  const sum_C = new Float64Array(channels);
  // Two rows at a time halve the traffic of the sums.
  const even = values.length - (values.length % (2 * channels));
  for (let row = 0; row < even; row += 2 * channels)
    for (let c = 0, k = row, l = row + channels; c < channels; c++, k++, l++)
      sum_C[c]! += values[k]! + values[l]!;
  for (let k = even; k < values.length; k++) sum_C[k - even]! += values[k]!;
  return sum_C;
}

/** Sums of x and of x times y over all but the last axis, in float64. */
export function columnProducts(
  device: WasmDevice,
  x: Raw,
  y: Raw,
): { readonly sum_C: Float64Array; readonly product_C: Float64Array } {
  const [a, b] = [heapView(device, x), heapView(device, y)];
  const channels = x.shape.at(-1)!;
  const sum_C = new Float64Array(channels);
  const product_C = new Float64Array(channels);
  const even = a.length - (a.length % (2 * channels));
  for (let row = 0; row < even; row += 2 * channels)
    for (let c = 0, k = row, l = row + channels; c < channels; c++, k++, l++) {
      const first = a[k]!;
      const second = a[l]!;
      sum_C[c]! += first + second;
      product_C[c]! += first * b[k]! + second * b[l]!;
    }
  for (let k = even; k < a.length; k++) {
    sum_C[k - even]! += a[k]!;
    product_C[k - even]! += a[k]! * b[k]!;
  }
  return { sum_C, product_C };
}

/**
 * x * scale + offset for every channel, in one pass.
 *
 * The backend clamps the result to [-inf, inf], which loses NaN. So that a diverged model cannot
 * pass for a sound one, a channel whose scale or offset is not finite is NaN throughout.
 */
export function affine(
  tf: Tfjs,
  x: Raw,
  scale_C: ArrayLike<number>,
  offset_C: ArrayLike<number>,
): Raw {
  const channels = scale_C.length;
  const y = tf.fused.depthwiseConv2d({
    x: tf.reshape<Rank.R4>(x, [1, x.size / channels, 1, channels]),
    filter: tf.tensor4d(Float32Array.from(scale_C), [1, 1, channels, 1]),
    bias: tf.tensor1d(Float32Array.from(offset_C)),
    strides: 1,
    pad: "valid",
  });
  const broken_C = Array.from(scale_C, (scale, c) => !Number.isFinite(scale + offset_C[c]!));
  const marked = broken_C.includes(true) ? tf.add(y, nanWhere(tf, broken_C)) : y;
  return tf.reshape(marked, x.shape);
}

/** NaN as bits, with a positive sign: the backend's ReLU takes the other kind for less than 0. */
const POSITIVE_NAN = 0x7fc00000;

function nanWhere(tf: Tfjs, broken_C: readonly boolean[]): Raw {
  const bits_C = Uint32Array.from(broken_C, (isBroken) => (isBroken ? POSITIVE_NAN : 0));
  return tf.tensor1d(new Float32Array(bits_C.buffer));
}
