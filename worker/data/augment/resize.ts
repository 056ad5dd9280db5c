/**
 * Antialiased bilinear resampling, bit for bit as Pillow's `Image.resize(BILINEAR)`.
 *
 * Two passes, columns first, each rounding to 8 bits. The filter is a triangle as wide as one
 * output pixel (at least one input pixel) with weights in fixed point; see Pillow's documentation
 * of "bilinear" and its 8-bit path: 32 - 8 (pixel) - 2 (head room) = 22 bits of fraction.
 */

import assert from "node:assert/strict";
import { type Box, createImage, type RgbImage } from "./rgb-image.ts";
import { roundHalfEven } from "./rounding.ts";

const WEIGHT_BITS = 22;
const ONE = 1 << WEIGHT_BITS;
const HALF = 1 << (WEIGHT_BITS - 1);

/** Which input pixels make one output pixel: `count[i]` from `first[i]` on. */
interface Taps {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `stride` weights per output pixel, in units of 1 / {@link ONE}. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Result of the column pass. Reused by every call of this thread. */
let columnsDone = new Uint8Array(0);
let rowSums = new Int32Array(0);

/**
 * Cuts `box` out of the image and resizes it to `size` x `size`.
 *
 * @param target receives the pixels when given; must have that size
 */
export function cropResize(image: RgbImage, box: Box, size: number, target?: RgbImage): RgbImage {
  const whole = { x: 0, y: 0, width: size, height: size };
  return resample(image, box, { width: size, height: size }, whole, target);
}

/**
 * Resizes so that the short edge is `edge`; the long one is truncated: int(edge * long / short).
 */
export function resizeShortEdge(image: RgbImage, edge: number): RgbImage {
  const output = shortEdgeSize(image, edge);
  return resample(image, boxOf(image), output, boxOf(output));
}

/** The centre; the offsets are round((H - size) / 2), halves to even. */
export function centerCrop(image: RgbImage, size: number): RgbImage {
  const { x, y } = centreBox(image, size);
  const result = createImage(size, size);
  for (let row = 0; row < size; row++) {
    const begin = ((y + row) * image.width + x) * 3;
    result.data.set(image.data.subarray(begin, begin + size * 3), row * size * 3);
  }
  return result;
}

/** Same as {@link resizeShortEdge} then {@link centerCrop}; computes only the pixels that stay. */
export function resizeCenterCrop(
  image: RgbImage,
  options: { readonly edge: number; readonly size: number },
  target?: RgbImage,
): RgbImage {
  const output = shortEdgeSize(image, options.edge);
  return resample(image, boxOf(image), output, centreBox(output, options.size), target);
}

interface Size {
  readonly width: number;
  readonly height: number;
}

function boxOf({ width, height }: Size): Box {
  return { x: 0, y: 0, width, height };
}

function shortEdgeSize({ width, height }: Size, edge: number): Size {
  return width < height
    ? { width: edge, height: Math.floor((edge * height) / width) }
    : { width: Math.floor((edge * width) / height), height: edge };
}

function centreBox({ width, height }: Size, size: number): Box {
  assert.ok(size <= width && size <= height, "the centre crop is larger than the image");
  const x = roundHalfEven((width - size) / 2);
  const y = roundHalfEven((height - size) / 2);
  return { x, y, width: size, height: size };
}

/** Resizes `box` of the image to `output` and returns `window` of the result. */
function resample(
  image: RgbImage,
  box: Box,
  output: Size,
  window: Box,
  target: RgbImage = createImage(window.width, window.height),
): RgbImage {
  assert.ok(box.x >= 0 && box.x + box.width <= image.width, "the crop leaves the image");
  assert.ok(box.y >= 0 && box.y + box.height <= image.height, "the crop leaves the image");
  assert.equal(target.data.length, window.width * window.height * 3);

  const across = computeTaps(box.width, output.width, window.x, window.width);
  const down = computeTaps(box.height, output.height, window.y, window.height);
  const last = window.height - 1;
  const rowBegin = down.first[0]!;
  const rowEnd = down.first[last]! + down.count[last]!;

  const rowBytes = window.width * 3;
  if (columnsDone.length < (rowEnd - rowBegin) * rowBytes) {
    columnsDone = new Uint8Array((rowEnd - rowBegin) * rowBytes);
  }
  for (let row = rowBegin; row < rowEnd; row++) {
    const from = ((box.y + row) * image.width + box.x) * 3;
    resampleRow(image.data, from, columnsDone, (row - rowBegin) * rowBytes, across);
  }
  resampleColumns(columnsDone, rowBegin, rowBytes, target.data, down);
  return target;
}

/** The triangle's weights for output pixels [begin, begin + length) of `outSize`. */
function computeTaps(inSize: number, outSize: number, begin: number, length: number): Taps {
  const scale = inSize / outSize;
  const support = Math.max(scale, 1);
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(length);
  const count = new Int32Array(length);
  const weights = new Int32Array(length * stride);
  const exact = new Float64Array(stride);
  const inverse = 1 / support;

  for (let i = 0; i < length; i++) {
    const centre = (begin + i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const high = Math.min(inSize, Math.trunc(centre + support + 0.5));
    let total = 0;
    for (let k = 0; k < high - low; k++) {
      const weight = Math.max(0, 1 - Math.abs((k + low - centre + 0.5) * inverse));
      exact[k] = weight;
      total += weight;
    }
    for (let k = 0; k < high - low; k++) {
      weights[i * stride + k] = Math.trunc(0.5 + (exact[k]! / total) * ONE);
    }
    first[i] = low;
    count[i] = high - low;
  }
  return { first, count, weights, stride };
}

function resampleRow(
  source: Uint8Array,
  from: number,
  result: Uint8Array,
  to: number,
  { first, count, weights, stride }: Taps,
): void {
  let out = to;
  for (let i = 0; i < first.length; i++) {
    let at = from + first[i]! * 3;
    const begin = i * stride;
    const end = begin + count[i]!;
    let red = HALF;
    let green = HALF;
    let blue = HALF;
    for (let k = begin; k < end; k++) {
      const weight = weights[k]!;
      red = (red + Math.imul(source[at]!, weight)) | 0;
      green = (green + Math.imul(source[at + 1]!, weight)) | 0;
      blue = (blue + Math.imul(source[at + 2]!, weight)) | 0;
      at += 3;
    }
    result[out] = clip8(red >> WEIGHT_BITS);
    result[out + 1] = clip8(green >> WEIGHT_BITS);
    result[out + 2] = clip8(blue >> WEIGHT_BITS);
    out += 3;
  }
}

/** @param rowBegin number of the first row that `source` holds */
function resampleColumns(
  source: Uint8Array,
  rowBegin: number,
  rowBytes: number,
  result: Uint8Array,
  { first, count, weights, stride }: Taps,
): void {
  if (rowSums.length < rowBytes) rowSums = new Int32Array(rowBytes);
  const sums = rowSums;
  for (let i = 0; i < first.length; i++) {
    sums.fill(HALF, 0, rowBytes);
    // Four rows at a time touch the sums a quarter as often. Past the last tap weights are 0.
    for (let k = 0; k < count[i]!; k += 4) {
      const at = (first[i]! + k - rowBegin) * rowBytes;
      const row0 = source.subarray(at, at + rowBytes);
      const row1 = rowOrFirst(source, at + rowBytes, row0);
      const row2 = rowOrFirst(source, at + 2 * rowBytes, row0);
      const row3 = rowOrFirst(source, at + 3 * rowBytes, row0);
      const weight0 = weights[i * stride + k]!;
      const weight1 = k + 1 < stride ? weights[i * stride + k + 1]! : 0;
      const weight2 = k + 2 < stride ? weights[i * stride + k + 2]! : 0;
      const weight3 = k + 3 < stride ? weights[i * stride + k + 3]! : 0;
      for (let column = 0; column < rowBytes; column++) {
        sums[column] =
          (sums[column]! +
            Math.imul(row0[column]!, weight0) +
            Math.imul(row1[column]!, weight1) +
            Math.imul(row2[column]!, weight2) +
            Math.imul(row3[column]!, weight3)) |
          0;
      }
    }
    const out = result.subarray(i * rowBytes, (i + 1) * rowBytes);
    for (let column = 0; column < rowBytes; column++) {
      out[column] = clip8(sums[column]! >> WEIGHT_BITS);
    }
  }
}

/** The row at `at`; beyond the end, where nothing counts, the first of the group. */
function rowOrFirst(source: Uint8Array, at: number, first: Uint8Array): Uint8Array {
  const end = at + first.length;
  return end <= source.length ? source.subarray(at, end) : first;
}

/** Rounded weights may add up to a little more than one. */
function clip8(value: number): number {
  return Math.min(value, 255);
}
