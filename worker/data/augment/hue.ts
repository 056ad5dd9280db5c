/**
 * Hue rotation in Pillow's 8-bit HSV.
 *
 * The conversion loses information, so its rounding is part of the result: `fround` stands wherever
 * Pillow stores a C float, and values are truncated where it casts to an integer.
 */

import type { RgbImage } from "./rgb-image.ts";

/** Sector (0..5) of a hue and the position in it, for each of the 256 hues. */
const SECTOR = Uint8Array.from({ length: 256 }, (_, hue) => Math.floor((hue * 6) / 255) % 6);
const FRACTION = Float32Array.from({ length: 256 }, (_, hue) => {
  const position = (hue * 6) / 255;
  return position - Math.floor(position);
});
const SATURATION = Float32Array.from({ length: 256 }, (_, saturation) => saturation / 255);

/**
 * Turns the hue of every pixel, in place, by trunc(hue * 255) steps of 1/256 of the circle.
 *
 * @param hue -0.5 to 0.5
 */
export function adjustHue({ data }: RgbImage, hue: number): void {
  const shift = Math.trunc(hue * 255);
  for (let i = 0; i < data.length; i += 3) turn(data, i, shift);
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
  const saturation = Math.trunc(Math.fround(chroma / value) * 255);
  if (saturation === 0) {
    data[i] = value;
    data[i + 1] = value;
    data[i + 2] = value;
    return;
  }
  const away = (channel: number): number => Math.fround((value - channel) / chroma);
  let sixth: number;
  if (red === value) sixth = away(blue) - away(green);
  else if (green === value) sixth = 2 + away(red) - away(blue);
  else sixth = 4 + away(green) - away(red);
  // In [5/6, 2), of which Pillow takes the fraction. The operator % would do, but slowly.
  const turned = Math.fround(sixth) / 6 + 1;
  const circle = Math.fround(turned < 1 ? turned : turned - 1);
  write(data, i, (Math.trunc(circle * 255) + shift) & 0xff, saturation, value);
}

function write(data: Uint8Array, i: number, hue: number, saturation: number, value: number): void {
  const fraction = FRACTION[hue]!;
  const strength = SATURATION[saturation]!;
  const floor = Math.floor(value * (1 - strength) + 0.5);
  const falling = Math.floor(value * (1 - Math.fround(strength * fraction)) + 0.5);
  const rising = Math.floor(value * (1 - strength * (1 - fraction)) + 0.5);
  const sector = SECTOR[hue]!;
  data[i] =
    sector === 0 || sector === 5 ? value : sector === 1 ? falling : sector === 4 ? rising : floor;
  data[i + 1] =
    sector === 1 || sector === 2 ? value : sector === 0 ? rising : sector === 3 ? falling : floor;
  data[i + 2] =
    sector === 3 || sector === 4 ? value : sector === 2 ? rising : sector === 5 ? falling : floor;
}
