/** Shape arithmetic that all engines share. A wrong shape is a programmer error: it asserts. */

import assert from "node:assert/strict";
import type { Geometry, Tensor } from "./engine.ts";

/** The pool of {@link Engine.maxPool}. */
export const POOL = { window: 3, stride: 2, padding: 1 } as const;

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, axis) => size * axis, 1);
}

/** Shape of a convolution's result: x [N,I,H,W], weight [O,I,kh,kw] -> [N,O,H',W']. */
export function convolutionShape(
  xShape: readonly number[],
  weightShape: readonly number[],
  geometry: Geometry,
): number[] {
  assert.equal(xShape.length, 4, `[${xShape}] is not the shape of images`);
  assert.equal(weightShape.length, 4, `[${weightShape}] is not the shape of a filter`);
  const [images, inputs, height, width] = xShape as [number, number, number, number];
  const [outputs, weightInputs, kh, kw] = weightShape as [number, number, number, number];
  assert.equal(weightInputs, inputs, `weight [${weightShape}] does not fit input [${xShape}]`);
  return [images, outputs, outputLength(height, kh, geometry), outputLength(width, kw, geometry)];
}

/** Number of places where a window fits along one axis. */
export function outputLength(
  length: number,
  window: number,
  { stride, padding }: Geometry,
): number {
  const places = Math.floor((length + 2 * padding - window) / stride) + 1;
  assert.ok(places > 0, `a window of ${window} does not fit ${length} pixels`);
  return places;
}

export function pooledShape(xShape: readonly number[]): number[] {
  assert.equal(xShape.length, 4, `[${xShape}] is not the shape of images`);
  const [images, channels, height, width] = xShape as [number, number, number, number];
  return [
    images,
    channels,
    outputLength(height, POOL.window, POOL),
    outputLength(width, POOL.window, POOL),
  ];
}

export function matrixShape({ shape }: Tensor): readonly [rows: number, columns: number] {
  assert.equal(shape.length, 2, `[${shape}] is not the shape of a matrix`);
  return shape as [number, number];
}

/** Shape of a contrastive gradient [R,D]: similarities [R,G], z_GD [G,D], a log-sum-exp each. */
export function contrastiveShape(
  similarities: Tensor,
  z_GD: Tensor,
  logSumExp_G: Float32Array,
): number[] {
  const [rows, rowsGlobal] = matrixShape(similarities);
  const [, width] = matrixShape(z_GD);
  assert.equal(logSumExp_G.length, rowsGlobal, "one log-sum-exp for each row of the gang");
  assertShape(z_GD.shape, [rowsGlobal, width]);
  return [rows, width];
}

/** One class for each row of logits [N,K]. */
export function assertLabels(labels: Int32Array, logits: Tensor): void {
  const [rows, classes] = matrixShape(logits);
  assert.equal(labels.length, rows, "one label for each row");
  const isClass = (label: number): boolean => label >= 0 && label < classes;
  assert.ok(labels.every(isClass), `labels lie in [0, ${classes})`);
}

export function assertShape(shape: readonly number[], expected: readonly number[]): void {
  assert.ok(
    shape.length === expected.length && shape.every((axis, k) => axis === expected[k]),
    `shape is [${shape}], not [${expected}]`,
  );
}
