/**
 * Where the elements of a tensor lie.
 *
 * The engine's callers think in PyTorch's order, TensorFlow.js computes in its own. A tensor
 * arrives in the caller's order and moves to the order of its first use, where it stays.
 */

import type { Raw, Tfjs } from "./kernels.ts";

/**
 * - `logical`: as the shape says; everything that is not 4-d.
 * - `image`: NCHW stored as NHWC.
 * - `filter`: OIHW stored as HWIO.
 */
export type Layout = "logical" | "image" | "filter";

/** Axis k of the stored tensor is axis `STORED_AXES[layout][k]` of the shape. */
const STORED_AXES = {
  logical: [0, 1, 2, 3],
  image: [0, 2, 3, 1],
  filter: [2, 3, 1, 0],
} as const satisfies Record<Layout, readonly number[]>;

/** The layout in which a tensor of this shape is stored when `layout` is asked for. */
export function layoutFor(shape: readonly number[], layout: Layout): Layout {
  return shape.length === 4 ? layout : "logical";
}

export function storedShape(shape: readonly number[], layout: Layout): number[] {
  if (shape.length !== 4) return [...shape];
  return STORED_AXES[layout].map((axis) => shape[axis]!);
}

/** A new tensor with the elements of `raw` in another order. */
export function rearrange(tf: Tfjs, raw: Raw, from: Layout, to: Layout): Raw {
  if (from === to) return tf.clone(raw);
  const stored: readonly number[] = STORED_AXES[from];
  return tf.transpose(
    raw,
    STORED_AXES[to].map((axis) => stored.indexOf(axis)),
  );
}
