import assert from "node:assert/strict";
import { sizeOf } from "../shapes.ts";

export interface PixelNorm {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** (pixel - mean) / std of each channel, stored NHWC. */
export function normaliseImages(
  pixels_NCHW: Uint8Array,
  shape: readonly number[],
  { mean, std }: PixelNorm,
): Float32Array {
  assert.equal(shape.length, 4, `[${shape}] is not the shape of images`);
  assert.equal(pixels_NCHW.length, sizeOf(shape), `pixels do not fill the shape [${shape}]`);
  const [images, channels, height, width] = shape as [number, number, number, number];
  assert.equal(mean.length, channels, "one mean per channel");
  assert.equal(std.length, channels, "one std per channel");
  const pixels = height * width;
  const values_NHWC = new Float32Array(pixels_NCHW.length);
  for (let c = 0; c < channels; c++) {
    const table = Float32Array.from({ length: 256 }, (_, pixel) => (pixel - mean[c]!) / std[c]!);
    for (let n = 0; n < images; n++) {
      const from = (n * channels + c) * pixels;
      const to = n * channels * pixels + c;
      for (let p = 0; p < pixels; p++)
        values_NHWC[to + p * channels] = table[pixels_NCHW[from + p]!]!;
    }
  }
  return values_NHWC;
}
