/**
 * Antialiased bilinear resampling, bit for bit as Pillow's `Image.resize(BILINEAR)`.
 *
 * Two passes, columns first, each rounding to 8 bits. The filter is a triangle as wide as one
 * output pixel (at least one input pixel) with weights in fixed point; see Pillow's documentation
 * of "bilinear" and its 8-bit path: 32 - 8 (pixel) - 2 (head room) = 22 bits of fraction.
 */

import assert from "node:assert/strict";
import type { Canvas } from "./canvas.ts";
import type { Box, Size } from "./rgb-image.ts";
import { roundHalfEven } from "./rounding.ts";

const WEIGHT_BITS = 22;
const ONE = 1 << WEIGHT_BITS;
/** Weights are cut in two for the kernels: 2048 upper + lower. */
const LOWER_BITS = 11;
const LOWER_MASK = (1 << LOWER_BITS) - 1;
/** Output pixels that a kernel computes together. */
const GROUP = 4;

/** Which input pixels make one output pixel: 2 `pairs` of them from `first[i]` on. */
interface Taps {
  readonly first: Int32Array;
  /** Input pixels [begin, end) count for something. */
  readonly begin: number;
  readonly end: number;
  readonly pairs: number;
  /** Per output pixel and pair two words: the upper halves of two weights, the lower halves. */
  readonly weights: Int32Array;
}

/** A stretch of one axis of the input, which may begin and end within a pixel. */
interface Stretch {
  readonly begin: number;
  readonly length: number;
}

/**
 * Cuts `box` out of the source and resizes it to the view.
 *
 * @param box in pixels of the source; may begin and end within one
 * @param options.flip mirrors left and right
 */
export function cropResize(
  canvas: Canvas,
  box: Box,
  { flip }: { readonly flip: boolean } = { flip: false },
): void {
  const { width, height } = canvas;
  const across = computeTaps({ begin: box.x, length: box.width }, width, {
    begin: 0,
    count: width,
  });
  const down = computeTaps({ begin: box.y, length: box.height }, height, {
    begin: 0,
    count: height,
  });
  resample(canvas, flip ? mirrored(across, width) : across, down);
}

/**
 * Resizes an image so that its short edge is `edge`, and takes the centre for the view.
 *
 * @param image its size, where the source is that image at `scale` times the size
 */
export function resizeCenterCrop(
  canvas: Canvas,
  edge: number,
  image: Size = canvas.source,
  scale = 1,
): void {
  const { width, height } = canvas;
  const output = shortEdgeSize(image, edge);
  assert.ok(width <= output.width && height <= output.height, "the centre crop is too large");
  const x = roundHalfEven((output.width - width) / 2);
  const y = roundHalfEven((output.height - height) / 2);
  const across = { begin: 0, length: image.width * scale };
  const down = { begin: 0, length: image.height * scale };
  resample(
    canvas,
    computeTaps(across, output.width, { begin: x, count: width }),
    computeTaps(down, output.height, { begin: y, count: height }),
  );
}

/** Size with a short edge of `edge`; the long one is truncated: int(edge * long / short). */
export function shortEdgeSize({ width, height }: Size, edge: number): Size {
  return width < height
    ? { width: edge, height: Math.floor((edge * height) / width) }
    : { width: Math.floor((edge * width) / height), height: edge };
}

/** The column pass into the work area, the row pass from there into the view. */
function resample(canvas: Canvas, across: Taps, down: Taps): void {
  const { kernels, source, sourceAt, view, planeBytes, width, height } = canvas;
  assert.ok(across.end <= source.width && down.end <= source.height, "the crop leaves the image");
  const rowBytes = source.width * 3;
  const rows = down.end - down.begin;
  const rowsBytes = Math.ceil(((rows + 2) * width) / 16) * 16;

  const work = canvas.openWork(3 * rowsBytes + tapsBytes(across) + tapsBytes(down));
  const acrossAt = work + 3 * rowsBytes;
  const downAt = acrossAt + tapsBytes(across);
  const inBytes = (first: Int32Array, begin: number, bytes: number): Int32Array =>
    first.map((pixel) => Math.max(0, pixel - begin) * bytes);
  canvas.write(acrossAt, inBytes(across.first, 0, 3));
  canvas.write(acrossAt + across.first.byteLength, across.weights);
  canvas.write(downAt, inBytes(down.first, down.begin, width));
  canvas.write(downAt + down.first.byteLength, down.weights);

  kernels.resampleRows(
    sourceAt + down.begin * rowBytes,
    rowBytes,
    rows,
    acrossAt,
    acrossAt + across.first.byteLength,
    across.pairs,
    work,
    width,
    rowsBytes,
  );
  kernels.resampleColumns(
    work,
    rowsBytes,
    downAt,
    downAt + down.first.byteLength,
    down.pairs,
    view,
    width,
    height,
    planeBytes,
  );
}

function tapsBytes({ first, weights }: Taps): number {
  return first.byteLength + weights.byteLength;
}

/**
 * The triangle's weights for `count` output pixels from `begin` on.
 *
 * @param outSize output pixels that the whole stretch makes
 */
function computeTaps(
  stretch: Stretch,
  outSize: number,
  { begin, count }: { readonly begin: number; readonly count: number },
): Taps {
  const scale = stretch.length / outSize;
  const support = Math.max(scale, 1);
  const lowest = Math.floor(stretch.begin);
  const highest = Math.ceil(stretch.begin + stretch.length);
  const centreOf = (i: number): number => stretch.begin + (begin + i + 0.5) * scale;
  const lowOf = (i: number): number => Math.max(lowest, Math.trunc(centreOf(i) - support + 0.5));
  const highOf = (i: number): number => Math.min(highest, Math.trunc(centreOf(i) + support + 0.5));
  let most = 0;
  for (let i = 0; i < count; i++) most = Math.max(most, highOf(i) - lowOf(i));

  const pairs = Math.ceil(most / 2);
  const padded = Math.ceil(count / GROUP) * GROUP;
  const first = new Int32Array(padded);
  const weights = new Int32Array(padded * pairs * 2);
  const exact = new Float64Array(most);
  const inverse = 1 / support;
  for (let i = 0; i < count; i++) {
    const centre = centreOf(i);
    const low = lowOf(i);
    const taps = highOf(i) - low;
    let total = 0;
    for (let k = 0; k < taps; k++) {
      const weight = Math.max(0, 1 - Math.abs((k + low - centre + 0.5) * inverse));
      exact[k] = weight;
      total += weight;
    }
    for (let k = 0; k < taps; k++) {
      const weight = Math.trunc(0.5 + (exact[k]! / total) * ONE);
      const word = (i * pairs + (k >> 1)) * 2;
      const shift = (k & 1) * 16;
      weights[word]! |= (weight >> LOWER_BITS) << shift;
      weights[word + 1]! |= (weight & LOWER_MASK) << shift;
    }
    first[i] = low;
  }
  return { first, begin: lowOf(0), end: highOf(count - 1), pairs, weights };
}

/** The same for output pixels from right to left. */
function mirrored(taps: Taps, count: number): Taps {
  const first = new Int32Array(taps.first.length);
  const weights = new Int32Array(taps.weights.length);
  const words = taps.pairs * 2;
  for (let i = 0; i < count; i++) {
    const from = count - 1 - i;
    first[i] = taps.first[from]!;
    weights.set(taps.weights.subarray(from * words, (from + 1) * words), i * words);
  }
  return { ...taps, first, weights };
}
