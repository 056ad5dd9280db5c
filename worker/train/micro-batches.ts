/** A worker's batch, cut into those of the ranks that it holds. */

import assert from "node:assert/strict";
import type { Recipe } from "../../proto/recipe.ts";
import type { Batch } from "../data/batch-reader.ts";
import type { Engine, Tensor } from "../engine/engine.ts";

/** What one rank of the recipe trains on at a step. */
export type MicroBatch = Pick<Batch, "pixels" | "labels" | "count" | "views">;

/** @param ranks that the worker holds; each has as many images in a batch */
export function microBatches(batch: Batch, ranks: number): readonly MicroBatch[] {
  const { pixels, labels, views } = batch;
  const count = batch.count / ranks;
  const bytes = pixels.length / ranks;
  assert.ok(Number.isInteger(count), `${batch.count} images are those of ${ranks} ranks`);
  return Array.from({ length: ranks }, (_, rank) => ({
    pixels: pixels.subarray(rank * bytes, (rank + 1) * bytes),
    labels: labels.subarray(rank * count, (rank + 1) * count),
    count,
    views,
  }));
}

/** The images of a micro-batch, normalised, [count * views, 3, size, size]. */
export function uploadImages(engine: Engine, batch: MicroBatch, data: Recipe["data"]): Tensor {
  const { imageSize } = data;
  const shape = [batch.count * batch.views, 3, imageSize, imageSize];
  return engine.uploadImages(batch.pixels, shape, data);
}

/**
 * Copies a micro-batch's gradient to `sum`, or adds it to those of the ones before.
 *
 * @param scratch for as many values, where there are many
 */
export function sumGradient(
  engine: Engine,
  gradient: Tensor,
  sum: Float32Array,
  options: { readonly isFirst: boolean; readonly scratch?: Float32Array },
): void {
  if (options.isFirst) {
    engine.download(gradient, sum);
    return;
  }
  const part = engine.download(gradient, options.scratch?.subarray(0, sum.length));
  for (let k = 0; k < sum.length; k++) sum[k]! += part[k]!;
}
