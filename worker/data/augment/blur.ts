/**
 * Gaussian blur as three extended box blurs per direction, bit for bit as `PIL.ImageFilter`.
 *
 * An extended box (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
 * filtering", 2011) has a fractional radius: 2 r + 1 whole pixels of weight `whole`, and one more on
 * either side of weight `edge`. Weights are in units of 2^-24; beyond the border the outermost pixel
 * repeats. Running sums make the cost independent of sigma.
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
  const margin = (radius + 1) * 3;
  for (let i = 0; i < margin; i++) {
    line[i] = data[begin + (i % 3)]!;
    line[margin + rowBytes + i] = data[begin + rowBytes - 3 + (i % 3)]!;
  }
  for (let i = 0; i < rowBytes; i++) line[margin + i] = data[begin + i]!;

  const span = margin * 2;
  for (let channel = 0; channel < 3; channel++) {
    // The pixels from -radius - 1 to radius - 1; the loop takes the first out and the next in.
    let sum = 0;
    for (let i = channel; i < span - 3; i += 3) sum += line[i]!;
    for (let i = channel; i < rowBytes; i += 3) {
      sum = (sum + line[i + span - 3]! - line[i]!) | 0;
      const rim = line[i]! + line[i + span]!;
      data[begin + i] = (Math.imul(sum, whole) + Math.imul(rim, edge) + HALF) >>> 24;
    }
  }
}

function blurColumns(
  from: Uint8Array,
  to: Uint8Array,
  rowBytes: number,
  height: number,
  { radius, whole, edge }: ExtendedBox,
): void {
  const rowAt = (y: number): number => Math.min(Math.max(y, 0), height - 1) * rowBytes;
  const sums = columnSums;
  sums.fill(0, 0, rowBytes);
  for (let y = -radius - 1; y < radius; y++) {
    const row = rowAt(y);
    for (let i = 0; i < rowBytes; i++) sums[i] = (sums[i]! + from[row + i]!) | 0;
  }
  for (let y = 0; y < height; y++) {
    const leaving = rowAt(y - radius - 1);
    const entering = rowAt(y + radius);
    const next = rowAt(y + radius + 1);
    const out = y * rowBytes;
    for (let i = 0; i < rowBytes; i++) {
      const left = from[leaving + i]!;
      const sum = (sums[i]! + from[entering + i]! - left) | 0;
      sums[i] = sum;
      const rim = left + from[next + i]!;
      to[out + i] = (Math.imul(sum, whole) + Math.imul(rim, edge) + HALF) >>> 24;
    }
  }
}

function reserve(imageBytes: number, lineBytes: number, rowBytes: number): void {
  if (scratch.length < imageBytes) scratch = new Uint8Array(imageBytes);
  if (paddedLine.length < lineBytes) paddedLine = new Uint8Array(lineBytes);
  if (columnSums.length < rowBytes) columnSums = new Int32Array(rowBytes);
}
