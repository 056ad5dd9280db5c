/**
 * Brightness, contrast, saturation and grey, as `PIL.ImageEnhance` and mmcv compute them.
 *
 * Every enhancement is a blend, out = base + factor (pixel - base) in float32, truncated to 8 bits
 * and clipped: base is black, the mean luma, or the pixel's own luma.
 */

import type { Canvas } from "./canvas.ts";

/** Weights of mmcv's grey; they add up to 0.9999 and are normalised by it. */
const GREY = { red: 0.2989, green: 0.587, blue: 0.114 } as const;
const GREY_SUM = GREY.blue + GREY.green + GREY.red;

/** Multiplies by `factor`: 0 is black, 1 leaves the view alone. */
export function adjustBrightness({ kernels, view, planeBytes }: Canvas, factor: number): void {
  kernels.blendWith(view, 3 * planeBytes, 0, factor);
}

/** Moves every value away from (or, below 1, towards) the rounded mean luma. */
export function adjustContrast(canvas: Canvas, factor: number): void {
  const { kernels, view, planeBytes, width, height } = canvas;
  const pixels = width * height;
  const mean = Math.trunc(kernels.sumLuma(view, planeBytes, pixels) / pixels + 0.5);
  kernels.blendWith(view, 3 * planeBytes, mean, factor);
}

/** Moves every pixel away from (or, below 1, towards) its own grey. */
export function adjustSaturation(canvas: Canvas, factor: number): void {
  const { kernels, view, planeBytes, width, height } = canvas;
  if (factor !== 1) kernels.blendWithLuma(view, planeBytes, width * height, factor);
}

/** Replaces colours by grey, with mmcv's weights: a float64 sum, truncated. */
export function toGrayscale({ kernels, view, planeBytes, width, height }: Canvas): void {
  const [r, g, b] = [GREY.red / GREY_SUM, GREY.green / GREY_SUM, GREY.blue / GREY_SUM];
  kernels.toGrey(view, planeBytes, width * height, r, g, b);
}
