/**
 * Augmentations one pixel at a time, written for reading: what the kernels must equal bit for bit.
 * `fround` stands wherever Pillow stores a C float, and values are truncated where it casts.
 */

import type { RgbImage } from "../../../worker/data/augment/rgb-image.ts";

const f = Math.fround;

/** out = base + factor (value - base): base is black, the mean luma or the pixel's own. */
export function blendPixels(
  { width, height, data }: RgbImage,
  kind: "brightness" | "contrast" | "saturation",
  factor: number,
): RgbImage {
  const lumas = Array.from({ length: width * height }, (_, i) => luma(data, i * 3));
  const mean = Math.trunc(lumas.reduce((sum, value) => sum + value) / lumas.length + 0.5);
  const out = data.map((value, i) => {
    const own = lumas[Math.floor(i / 3)]!;
    const base = kind === "brightness" ? 0 : kind === "contrast" ? mean : own;
    const mixed = f(base + f(f(factor) * (value - base)));
    return Math.trunc(Math.min(255, Math.max(0, mixed)));
  });
  return { width, height, data: out };
}

/** ITU-R 601 luma in 16-bit fixed point, rounded. */
function luma(data: Uint8Array, i: number): number {
  return (data[i]! * 19595 + data[i + 1]! * 38470 + data[i + 2]! * 7471 + 0x8000) >> 16;
}

/** mmcv's weights, normalised; a float64 sum, truncated. */
export function greyPixels({ width, height, data }: RgbImage): RgbImage {
  const sum = 0.114 + 0.587 + 0.2989;
  const out = data.map((_, i) => {
    const at = i - (i % 3);
    const blue = data[at + 2]! * (0.114 / sum);
    return Math.trunc(blue + data[at + 1]! * (0.587 / sum) + data[at]! * (0.2989 / sum));
  });
  return { width, height, data: out };
}

/** Three extended boxes across, then three down. */
export function blurPixels(image: RgbImage, sigma: number): RgbImage {
  const { width, height } = image;
  let data = image.data;
  for (let pass = 0; pass < 3; pass++) data = blurPass(data, width, height, sigma, "x");
  for (let pass = 0; pass < 3; pass++) data = blurPass(data, width, height, sigma, "y");
  return { width, height, data };
}

function blurPass(
  data: Uint8Array,
  width: number,
  height: number,
  sigma: number,
  axis: "x" | "y",
): Uint8Array {
  const variance = f(f(f(sigma) * f(sigma)) / 3);
  const length = f(Math.sqrt(12 * variance + 1));
  const l = Math.floor((length - 1) / 2);
  const excess = f(f(l * (l + 1)) - f(3 * variance));
  const fraction = f(f((2 * l + 1) * excess) / f(6 * f(variance - (l + 1) * (l + 1))));
  const size = f(l + fraction);
  const radius = Math.trunc(size);
  const whole = Math.trunc(f(2 ** 24 / f(f(size * 2) + 1)));
  const edge = Math.floor((2 ** 24 - (radius * 2 + 1) * whole) / 2);
  const clamp = (value: number, end: number): number => Math.min(Math.max(value, 0), end - 1);
  return data.map((_, i) => {
    const channel = i % 3;
    const x = Math.floor(i / 3) % width;
    const y = Math.floor(i / 3 / width);
    let sum = 2 ** 23;
    for (let k = -radius - 1; k <= radius + 1; k++) {
      const at = axis === "x" ? y * width + clamp(x + k, width) : clamp(y + k, height) * width + x;
      sum += data[at * 3 + channel]! * (Math.abs(k) > radius ? edge : whole);
    }
    return Math.floor(sum / 2 ** 24);
  });
}

/** Sector (0..5) of a hue and the position in it, for each of the 256 hues. */
const SECTOR = Uint8Array.from({ length: 256 }, (_, hue) => Math.floor((hue * 6) / 255) % 6);
const FRACTION = Float32Array.from({ length: 256 }, (_, hue) => {
  const position = (hue * 6) / 255;
  return position - Math.floor(position);
});
const SATURATION = Float32Array.from({ length: 256 }, (_, saturation) => saturation / 255);

/** Turns the hue of every pixel by trunc(hue * 255) steps, in 8-bit HSV. */
export function turnPixels({ width, height, data }: RgbImage, hue: number): RgbImage {
  const out = data.slice();
  for (let i = 0; i < out.length; i += 3) turn(out, i, Math.trunc(hue * 255));
  return { width, height, data: out };
}

/** Converts one pixel to HSV, turns it and converts it back. */
function turn(data: Uint8Array, i: number, shift: number): void {
  const red = data[i]!;
  const green = data[i + 1]!;
  const blue = data[i + 2]!;
  const value = Math.max(red, green, blue);
  const low = Math.min(red, green, blue);
  // Grey has saturation 0, which gives the same grey back for any hue.
  if (value === low) return;

  const chroma = value - low;
  const saturation = Math.trunc(f(chroma / value) * 255);
  if (saturation === 0) {
    data[i] = value;
    data[i + 1] = value;
    data[i + 2] = value;
    return;
  }
  const away = (channel: number): number => f((value - channel) / chroma);
  let sixth: number;
  if (red === value) sixth = away(blue) - away(green);
  else if (green === value) sixth = 2 + away(red) - away(blue);
  else sixth = 4 + away(green) - away(red);
  // In [5/6, 2), of which Pillow takes the fraction. The operator % would do, but slowly.
  const turned = f(sixth) / 6 + 1;
  const circle = f(turned < 1 ? turned : turned - 1);
  write(data, i, (Math.trunc(circle * 255) + shift) & 0xff, saturation, value);
}

function write(data: Uint8Array, i: number, hue: number, saturation: number, value: number): void {
  const fraction = FRACTION[hue]!;
  const strength = SATURATION[saturation]!;
  const floor = Math.floor(value * (1 - strength) + 0.5);
  const falling = Math.floor(value * (1 - f(strength * fraction)) + 0.5);
  const rising = Math.floor(value * (1 - strength * (1 - fraction)) + 0.5);
  const sector = SECTOR[hue]!;
  data[i] =
    sector === 0 || sector === 5 ? value : sector === 1 ? falling : sector === 4 ? rising : floor;
  data[i + 1] =
    sector === 1 || sector === 2 ? value : sector === 0 ? rising : sector === 3 ? falling : floor;
  data[i + 2] =
    sector === 3 || sector === 4 ? value : sector === 2 ? rising : sector === 5 ? falling : floor;
}
