/** Index arithmetic of the reference engine: which elements meet in which operation. */

import assert from "node:assert/strict";
import type { Geometry, Tensor, UpdateOptions } from "../../worker/engine/engine.ts";

/** A tensor of the reference engine: float64, row-major in the logical layout. */
export class Values implements Tensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;

  constructor(shape: readonly number[], data: Float64Array) {
    assert.equal(data.length, sizeOf(shape), `data does not fill the shape [${shape}]`);
    this.shape = [...shape];
    this.data = data;
  }
}

const POOL: Geometry = { stride: 2, padding: 1 };
const POOL_WINDOW = 3;

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, axis) => size * axis, 1);
}

/** Shape of a convolution's result: x [N,I,H,W], weight [O,I,kh,kw] -> [N,O,H',W']. */
export function outputShape(
  xShape: readonly number[],
  weightShape: readonly number[],
  { stride, padding }: Geometry,
): number[] {
  const [images, inputs, height, width] = xShape as [number, number, number, number];
  const [outputs, weightInputs, kh, kw] = weightShape as [number, number, number, number];
  assert.equal(weightInputs, inputs, "the weight is for another number of channels");
  const along = (size: number, kernel: number): number =>
    Math.floor((size + 2 * padding - kernel) / stride) + 1;
  return [images, outputs, along(height, kh), along(width, kw)];
}

export function pooledShape(xShape: readonly number[]): number[] {
  const channels = xShape[1]!;
  return outputShape(xShape, [channels, channels, POOL_WINDOW, POOL_WINDOW], POOL);
}

/** Calls `visit` for every product x[xi] * weight[wi] that is part of y[yi]. */
export function forEachProduct(
  xShape: readonly number[],
  weightShape: readonly number[],
  geometry: Geometry,
  visit: (xi: number, wi: number, yi: number) => void,
): void {
  const [images, inputs, height, width] = xShape as [number, number, number, number];
  const [outputs, , kh, kw] = weightShape as [number, number, number, number];
  const [, , outHeight, outWidth] = outputShape(xShape, weightShape, geometry);
  for (let n = 0; n < images; n++)
    for (let o = 0; o < outputs; o++)
      forEachTap([height, width], [outHeight!, outWidth!], [kh, kw], geometry, (at, tap, out) => {
        for (let i = 0; i < inputs; i++)
          visit(
            (n * inputs + i) * height * width + at,
            (o * inputs + i) * kh * kw + tap,
            (n * outputs + o) * outHeight! * outWidth! + out,
          );
      });
}

/** Calls `visit` for every input of every pooling window, row by row within the window. */
export function forEachPoolInput(
  xShape: readonly number[],
  visit: (xi: number, yi: number) => void,
): void {
  const [images, channels, height, width] = xShape as [number, number, number, number];
  const [, , outHeight, outWidth] = pooledShape(xShape);
  const window = [POOL_WINDOW, POOL_WINDOW] as const;
  for (let plane = 0; plane < images * channels; plane++)
    forEachTap([height, width], [outHeight!, outWidth!], window, POOL, (at, _tap, out) =>
      visit(plane * height * width + at, plane * outHeight! * outWidth! + out),
    );
}

type Size = readonly [height: number, width: number];

/** Calls `visit` for every tap of every output pixel that lies inside the input. */
function forEachTap(
  input: Size,
  output: Size,
  kernel: Size,
  { stride, padding }: Geometry,
  visit: (at: number, tap: number, out: number) => void,
): void {
  for (let oy = 0; oy < output[0]; oy++)
    for (let ox = 0; ox < output[1]; ox++)
      for (let ky = 0; ky < kernel[0]; ky++)
        for (let kx = 0; kx < kernel[1]; kx++) {
          const [y, x] = [oy * stride + ky - padding, ox * stride + kx - padding];
          if (y < 0 || y >= input[0] || x < 0 || x >= input[1]) continue;
          visit(y * input[1] + x, ky * kernel[1] + kx, oy * output[1] + ox);
        }
}

/** From the flat index of an element of [N,C,...] to its channel. */
export function channelIndex(shape: readonly number[]): (k: number) => number {
  const channels = shape[1]!;
  const pixels = sizeOf(shape.slice(2));
  return (k) => Math.floor(k / pixels) % channels;
}

/** Sums `term(k)` over all elements of [N,C,...], channel by channel. */
export function channelSums(shape: readonly number[], term: (k: number) => number): Float64Array {
  const channel = channelIndex(shape);
  const sums = new Float64Array(shape[1]!);
  const size = sizeOf(shape);
  for (let k = 0; k < size; k++) sums[channel(k)]! += term(k);
  return sums;
}

/** Mean and biased variance of every channel of [N,C,...]. */
export function momentsOf(
  shape: readonly number[],
  data: Float64Array,
): { readonly mean_C: Float64Array; readonly variance_C: Float64Array } {
  const channel = channelIndex(shape);
  const count = data.length / shape[1]!;
  const mean_C = channelSums(shape, (k) => data[k]!).map((sum) => sum / count);
  const squares_C = channelSums(shape, (k) => (data[k]! - mean_C[channel(k)]!) ** 2);
  return { mean_C, variance_C: squares_C.map((sum) => sum / count) };
}

/** log of the sum of exp, safe for large values. */
export function logSumExp(values: Iterable<number>): number {
  const all = [...values];
  const peak = Math.max(...all);
  return peak + Math.log(all.reduce((sum, v) => sum + Math.exp(v - peak), 0));
}

/** a [m,k] times b [k,n]. */
export function product(a: Values, b: Values): Values {
  const [m, k] = a.shape as [number, number];
  const n = b.shape[1]!;
  assert.equal(b.shape[0], k, "inner sizes differ");
  const c = new Float64Array(m * n);
  for (let row = 0; row < m; row++)
    for (let inner = 0; inner < k; inner++)
      for (let column = 0; column < n; column++)
        c[row * n + column]! += a.data[row * k + inner]! * b.data[inner * n + column]!;
  return new Values([m, n], c);
}

export function transposed({ shape, data }: Values): Values {
  const [rows, columns] = shape as [number, number];
  const swapped = data.map((_, k) => data[(k % rows) * columns + Math.floor(k / rows)]!);
  return new Values([columns, rows], swapped);
}

/** One LARS or SGD step in place; `g` is scaled already. */
export function stepWeights(
  w: Float64Array,
  v: Float64Array,
  g: Float64Array,
  { lr, momentum, weightDecay, nesterov, lars }: UpdateOptions,
): void {
  const [wNorm, gNorm] = [norm(w), norm(g)];
  const local =
    lars && wNorm > 0 && gNorm > 0
      ? (lars.trustCoefficient * wNorm) / (gNorm + weightDecay * wNorm + lars.eps)
      : 1;
  for (let k = 0; k < w.length; k++) {
    const d = local * lr * (g[k]! + weightDecay * w[k]!);
    v[k] = momentum * v[k]! + d;
    w[k]! -= nesterov ? d + momentum * v[k]! : v[k]!;
  }
}

/** Euclidean norm. */
function norm(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, v) => sum + v * v, 0));
}
