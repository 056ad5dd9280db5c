/**
 * Gaussian blur as three extended box blurs per direction, bit for bit as `PIL.ImageFilter`.
 *
 * An extended box (Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box
 * filtering", 2011) has a fractional radius: 2 r + 1 whole pixels of weight `whole`, and one more
 * on either side of weight `edge`. Weights are in units of 2^-24; beyond the border the outermost
 * pixel repeats.
 */

import assert from "node:assert/strict";
import type { Canvas } from "./canvas.ts";

const PASSES = 3;
const ONE = 1 << 24;
/** Sums of 2 r + 1 pixels have to fit into 16 bits. The recipe's limit of sigma is below it. */
const RADIUS_MAX = 63;
/** Beside a line's margin, what the kernel may read and write beyond. */
const LINE_SLACK_BYTES = 32;

interface ExtendedBox {
  readonly radius: number;
  readonly whole: number;
  readonly edge: number;
}

/** Blurs with a standard deviation of `sigma` pixels. */
export function gaussianBlur(canvas: Canvas, sigma: number): void {
  const { kernels, view, scratch, planeBytes, width, height } = canvas;
  const { radius, whole, edge } = extendedBox(sigma);
  assert.ok(radius <= RADIUS_MAX, `a blur of sigma ${sigma} is out of range`);
  const upper = ((edge >> 12) << 16) | (whole >> 12);
  const lower = ((edge & 0xfff) << 16) | (whole & 0xfff);
  const lineBytes = width + 2 * (radius + 1) + LINE_SLACK_BYTES;
  const lines = canvas.openWork(2 * lineBytes);
  kernels.blurRows(view, planeBytes, width, height, lines, lineBytes, radius, upper, lower);

  for (let plane = 0; plane < 3; plane++) {
    const at = plane * planeBytes;
    let [from, to] = [view + at, scratch + at];
    for (let pass = 0; pass < PASSES; pass++) {
      kernels.blurColumns(from, to, width, height, radius, upper, lower);
      [from, to] = [to, from];
    }
  }
  canvas.swap();
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
