/**
 * Brightness, contrast, saturation and grey, as `PIL.ImageEnhance` and mmcv compute them.
 *
 * Every enhancement is a blend, out = base + factor (pixel - base) in float32, truncated to 8 bits
 * and clipped: base is black, the mean luma, or the pixel's own luma. All work in place.
 */

import type { RgbImage } from "./rgb-image.ts";

/** Weights of mmcv's grey; they add up to 0.9999 and are normalised by it. */
const GREY_SUM = 0.114 + 0.587 + 0.2989;
const GREY_RED = greyTable(0.2989);
const GREY_GREEN = greyTable(0.587);
const GREY_BLUE = greyTable(0.114);

/** Multiplies by `factor`: 0 is black, 1 leaves the image alone. */
export function adjustBrightness({ data }: RgbImage, factor: number): void {
  applyTable(data, blendTable(0, factor));
}

/** Moves every value away from (or, below 1, towards) the rounded mean luma. */
export function adjustContrast({ data }: RgbImage, factor: number): void {
  let sum = 0;
  for (let i = 0; i < data.length; i += 3) sum += luma(data[i]!, data[i + 1]!, data[i + 2]!);
  const mean = Math.trunc(sum / (data.length / 3) + 0.5);
  applyTable(data, blendTable(mean, factor));
}

/** Moves every pixel away from (or, below 1, towards) its own grey. */
export function adjustSaturation({ data }: RgbImage, factor: number): void {
  if (factor === 1) return;
  const alpha = Math.fround(factor);
  for (let i = 0; i < data.length; i += 3) {
    const red = data[i]!;
    const green = data[i + 1]!;
    const blue = data[i + 2]!;
    const grey = luma(red, green, blue);
    data[i] = blend(grey, red, alpha);
    data[i + 1] = blend(grey, green, alpha);
    data[i + 2] = blend(grey, blue, alpha);
  }
}

/** Replaces colours by grey, with mmcv's weights: a float64 sum, truncated. */
export function toGrayscale({ data }: RgbImage): void {
  for (let i = 0; i < data.length; i += 3) {
    const sum = GREY_BLUE[data[i + 2]!]! + GREY_GREEN[data[i + 1]!]! + GREY_RED[data[i]!]!;
    const grey = Math.trunc(sum);
    data[i] = grey;
    data[i + 1] = grey;
    data[i + 2] = grey;
  }
}

/** ITU-R 601 luma in 16-bit fixed point, rounded. */
function luma(red: number, green: number, blue: number): number {
  return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
}

/** @param alpha a float32 */
function blend(base: number, value: number, alpha: number): number {
  const mixed = Math.fround(base + Math.fround(alpha * (value - base)));
  return mixed <= 0 ? 0 : mixed >= 255 ? 255 : Math.trunc(mixed);
}

/** The blend of every possible value with one base. */
function blendTable(base: number, factor: number): Uint8Array {
  const alpha = Math.fround(factor);
  return Uint8Array.from({ length: 256 }, (_, value) => blend(base, value, alpha));
}

function applyTable(data: Uint8Array, table: Uint8Array): void {
  for (let i = 0; i < data.length; i++) data[i] = table[data[i]!]!;
}

function greyTable(weight: number): Float64Array {
  return Float64Array.from({ length: 256 }, (_, value) => value * (weight / GREY_SUM));
}
