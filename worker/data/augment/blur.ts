/**
 * Gaussian blur as three extended box blurs per direction, bit for bit as `PIL.ImageFilter`.
 *
 * An extended box (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
 * filtering", 2011) has a fractional radius: 2 r + 1 whole pixels of weight `whole`, and one more
 * on either side of weight `edge`. Weights are in units of 2^-24; beyond the border the outermost
 * pixel repeats. Running sums make the cost independent of sigma.
 */

import type { RgbImage } from "./rgb-image.ts";

const PASSES = 3;
const ONE = 1 << 24;
const HALF = 1 << 23;

interface ExtendedBox {
  readonly radius: number;
  readonly whole: number;
  readonly edge: number;
}

/** Reused by every call of this thread; a blur never yields. */
let scratch: Uint8Array = new Uint8Array(0);
let paddedLine = new Uint8Array(0);
let columnSums = new Int32Array(0);

/** Blurs in place with a standard deviation of `sigma` pixels. */
export function gaussianBlur({ width, height, data }: RgbImage, sigma: number): void {
  const box = extendedBox(sigma);
  const rowBytes = width * 3;
  reserve(data.length, rowBytes + (box.radius + 1) * 6, rowBytes);

  for (let pass = 0; pass < PASSES; pass++) {
    for (let y = 0; y < height; y++) blurLine(data, y * rowBytes, rowBytes, box);
  }
  // Down the columns a pass needs rows that it has already replaced: alternate between two images.
  scratch.set(data);
  let from = scratch.subarray(0, data.length);
  let to = data;
  for (let pass = 0; pass < PASSES; pass++) {
    blurColumns(from, to, rowBytes, height, box);
    [from, to] = [to, from];
  }
}

/** The box whose three-fold convolution has the variance of the Gaussian; float32 as in Pillow. */
function extendedBox(sigma: number): ExtendedBox {
  const f = Math.fround;
  const s = f(sigma);
  const variance = f(f(s * s) / PASSES);
  const length = f(Math.sqrt(12 * variance + 1));
  const radius = Math.floor((length - 1) / 2);
  const excess = f(f(radius * (radius + 1)) - f(3 * variance));
  const fraction = f(
    f((2 * radius + 1) * excess) / f(6 * f(variance - (radius + 1) * (radius + 1))),
  );
  const extended = f(radius + fraction);

  const whole = Math.trunc(f(ONE / f(f(extended * 2) + 1)));
  const integer = Math.trunc(extended);
  return { radius: integer, whole, edge: Math.floor((ONE - (integer * 2 + 1) * whole) / 2) };
}

function blurLine(
  data: Uint8Array,
  begin: number,
  rowBytes: number,
  { radius, whole, edge }: ExtendedBox,
): void {
  const line = paddedLine;
  let out = begin;
  const margin = (radius + 1) * 3;
  for (let i = 0; i < margin; i++) {
    line[i] = data[begin + (i % 3)]!;
    line[margin + rowBytes + i] = data[begin + rowBytes - 3 + (i % 3)]!;
  }
  line.set(data.subarray(begin, begin + rowBytes), margin);

  // The pixels from -radius - 1 to radius - 1; the loop takes the first out and the next in.
  const span = margin * 2;
  let red = 0;
  let green = 0;
  let blue = 0;
  for (let i = 0; i < span - 3; i += 3) {
    red += line[i]!;
    green += line[i + 1]!;
    blue += line[i + 2]!;
  }
  for (let i = 0, far = span; i < rowBytes; i += 3, far += 3, out += 3) {
    red = (red + line[far - 3]! - line[i]!) | 0;
    green = (green + line[far - 2]! - line[i + 1]!) | 0;
    blue = (blue + line[far - 1]! - line[i + 2]!) | 0;
    data[out] = weigh(red, line[i]! + line[far]!, whole, edge);
    data[out + 1] = weigh(green, line[i + 1]! + line[far + 1]!, whole, edge);
    data[out + 2] = weigh(blue, line[i + 2]! + line[far + 2]!, whole, edge);
  }
}

function blurColumns(
  from: Uint8Array,
  to: Uint8Array,
  rowBytes: number,
  height: number,
  { radius, whole, edge }: ExtendedBox,
): void {
  const rowAt = (y: number): Uint8Array => {
    const begin = Math.min(Math.max(y, 0), height - 1) * rowBytes;
    return from.subarray(begin, begin + rowBytes);
  };
  const sums = columnSums;
  sums.fill(0, 0, rowBytes);
  for (let y = -radius - 1; y < radius; y++) {
    const row = rowAt(y);
    for (let i = 0; i < rowBytes; i++) sums[i] = (sums[i]! + row[i]!) | 0;
  }
  for (let y = 0; y < height; y++) {
    const leaving = rowAt(y - radius - 1);
    const entering = rowAt(y + radius);
    const next = rowAt(y + radius + 1);
    const out = to.subarray(y * rowBytes, (y + 1) * rowBytes);
    for (let i = 0; i < rowBytes; i++) {
      const left = leaving[i]!;
      const sum = (sums[i]! + entering[i]! - left) | 0;
      sums[i] = sum;
      out[i] = weigh(sum, left + next[i]!, whole, edge);
    }
  }
}

/** Stays below 2^32: the weights of a box add up to at most one. */
function weigh(sum: number, rim: number, whole: number, edge: number): number {
  return (Math.imul(sum, whole) + Math.imul(rim, edge) + HALF) >>> 24;
}

function reserve(imageBytes: number, lineBytes: number, rowBytes: number): void {
  if (scratch.length < imageBytes) scratch = new Uint8Array(imageBytes);
  if (paddedLine.length < lineBytes) paddedLine = new Uint8Array(lineBytes);
  if (columnSums.length < rowBytes) columnSums = new Int32Array(rowBytes);
}
