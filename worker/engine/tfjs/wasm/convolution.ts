/**
 * Convolutions for the WebAssembly backend.
 *
 * Only the forward convolution and the plain matrix product are fast, so both backwards are put in
 * their terms. Shape letters: N images, I inputs, O outputs, stride s.
 */

import assert from "node:assert/strict";
import type { Tensor2D, Tensor4D } from "@tensorflow/tfjs-core";
import type { Geometry } from "../../engine.ts";
import type { Raw, Tfjs } from "../kernels.ts";
import { allocate, heapView, type WasmDevice } from "./device.ts";
import { copyPatches } from "./patches.ts";
import { phaseFilter, type Window } from "./phase-filter.ts";

/** Floats of patches laid out at a time, 4 MiB: more is no faster, and sums less exactly. */
const PATCH_FLOATS = 1 << 20;

export function convolution(tf: Tfjs, x: Raw, filter: Raw, { stride, padding }: Geometry): Raw {
  // Spelled out: given one number, the library takes every kernel for a square one.
  const margin: [number, number] = [padding, padding];
  const pads: Parameters<Tfjs["conv2d"]>[3] = [[0, 0], margin, margin, [0, 0]];
  return tf.conv2d(x as Tensor4D, filter as Tensor4D, stride, pads, "NHWC", 1, "floor");
}

/**
 * A stride-1 convolution of dy whose outputs are the s x s input pixels that belong to each pixel
 * of dy; then the blocks are put in their places.
 */
export function convolutionBackwardInput(
  tf: Tfjs,
  dy: Raw,
  filter: Raw,
  xShape: readonly number[],
  geometry: Geometry,
): Raw {
  const { stride } = geometry;
  const [images, height, width, inputs] = xShape as [number, number, number, number];
  const [, dyHeight, dyWidth] = dy.shape as [number, number, number, number];
  const phases = phaseFilter(filter.dataSync<"float32">(), filter.shape, geometry);
  const [down, across] = [Math.ceil(height / stride), Math.ceil(width / stride)];
  const blocks = tf.conv2d(dy as Tensor4D, tf.tensor4d(phases.values, phases.shape), 1, [
    [0, 0],
    padsFor(phases.rows, dyHeight, down),
    padsFor(phases.columns, dyWidth, across),
    [0, 0],
  ]);
  if (stride === 1) return blocks;
  const lines = tf.reshape(blocks, [images * down, across, stride, stride * inputs]);
  const pixels = tf.reshape(tf.transpose(lines, [0, 2, 1, 3]), [
    images,
    down * stride,
    across * stride,
    inputs,
  ]);
  const isWhole = height % stride === 0 && width % stride === 0;
  return isWhole ? pixels : tf.slice(pixels, [0, 0, 0, 0], [images, height, width, inputs]);
}

/** Zeros before and after `length` pixels so that a window has `places` places. */
function padsFor({ first, last }: Window, length: number, places: number): [number, number] {
  const after = places + last - length;
  assert.ok(first <= 0 && after >= 0, "a padding smaller than the kernel");
  return [-first, after];
}

/**
 * The product of patches [kh kw I, H' W' N] and dy [H' W' N, O], taken over a few rows of pixels at
 * a time. With the images innermost, patches are made by copying runs of memory.
 */
export function convolutionBackwardWeight(
  device: WasmDevice,
  x: Raw,
  dy: Raw,
  filterShape: readonly number[],
  { stride, padding }: Geometry,
): Raw {
  const { tf } = device;
  const [kh, kw, inputs, outputs] = filterShape as [number, number, number, number];
  const [images, height, width] = x.shape as [number, number, number, number];
  const [, outHeight, outWidth] = dy.shape as [number, number, number, number];
  if (kh === 1 && kw === 1 && padding === 0) {
    const used_PI = tf.reshape(everyNth(tf, x, stride), [-1, inputs]);
    const dy_PO = tf.reshape(dy, [-1, outputs]);
    return tf.reshape(tf.matMul(tf.transpose(used_PI), dy_PO), [1, 1, inputs, outputs]);
  }
  const grid = { inputs, height, width, images, kh, kw, stride, padding, outWidth };
  const x_IHWN = tf.transpose(x, [3, 1, 2, 0]);
  const dy_PO = tf.reshape(tf.transpose(dy, [1, 2, 0, 3]), [-1, outputs]);
  const taps = kh * kw * inputs;
  const pixelsPerRow = outWidth * images;
  const rowsAtOnce = Math.max(1, Math.floor(PATCH_FLOATS / (taps * pixelsPerRow)));
  let sum: Raw | undefined;
  for (let begin = 0; begin < outHeight; begin += rowsAtOnce) {
    const end = Math.min(outHeight, begin + rowsAtOnce);
    const pixels = (end - begin) * pixelsPerRow;
    const part = tf.tidy(() => {
      const patches = allocate(device, [taps, pixels]);
      const rows_PO = allocate(device, [pixels, outputs]);
      copyPatches(heapView(device, x_IHWN), heapView(device, patches), grid, { begin, end });
      const first = begin * pixelsPerRow * outputs;
      heapView(device, rows_PO).set(
        heapView(device, dy_PO).subarray(first, first + pixels * outputs),
      );
      const product = tf.matMul(patches as Tensor2D, rows_PO as Tensor2D);
      return sum ? tf.add(sum, product) : product;
    });
    sum?.dispose();
    sum = part;
  }
  assert.ok(sum, "an image has rows");
  return tf.reshape(sum, [kh, kw, inputs, outputs]);
}

/** Every `stride`-th pixel in both directions; a depthwise convolution is the fast way to them. */
function everyNth(tf: Tfjs, x: Raw, stride: number): Raw {
  if (stride === 1) return x;
  const one = tf.ones([1, 1, x.shape[3]!, 1]) as Tensor4D;
  return tf.depthwiseConv2d(x as Tensor4D, one, stride, "valid");
}
