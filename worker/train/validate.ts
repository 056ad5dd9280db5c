/** Top-1 and top-5 over the whole validation set, each image counted once. */

import type { BatchReader } from "../data/batch-reader.ts";
import type { Engine } from "../engine/engine.ts";
import type { LinearModel } from "../model/linear-model.ts";
import { type StageContext, throwIfStopped } from "./stage-context.ts";
import { joinCount, splitCount } from "./sync-state.ts";

export interface Accuracy {
  /** Percent. */
  readonly top1: number;
  /** Percent; with fewer than 5 classes the top of them all. */
  readonly top5: number;
  /** Images that were looked at, over the gang. */
  readonly images: number;
}

interface Hits {
  images: number;
  top1: number;
  top5: number;
}

/** Runs one pass; every rank gets the same figures. */
export function validate(
  engine: Engine,
  context: StageContext,
  model: LinearModel,
  batches: BatchReader,
): Accuracy {
  const { job, group } = context;
  const { data, linear } = job.recipe;
  const own: Hits = { images: 0, top1: 0, top5: 0 };
  const ownImages = Math.ceil((job.validationImages - job.rank) / job.worldSize);
  const steps = Math.ceil(Math.max(0, ownImages) / linear.validation.batchPerWorker);
  for (let step = 0; step < steps; step++) {
    throwIfStopped(job);
    const batch = batches.next();
    if (!batch) break;
    // A batch of which no image could be read is empty.
    if (batch.count > 0) {
      const logits = engine.scope(() => {
        const shape = [batch.count, 3, data.imageSize, data.imageSize];
        const images = engine.uploadImages(batch.pixels, shape, data);
        return engine.download(model.forwardLogits(model.forwardFeatures(images)));
      });
      countHits(logits, batch.labels, linear.classes, own);
    }
    batches.done();
  }
  const all = sumOverRanks(group.allGather(concat(own)), job.worldSize);
  const percent = (hits: number): number => (all.images === 0 ? 0 : (100 * hits) / all.images);
  return { top1: percent(all.top1), top5: percent(all.top5), images: all.images };
}

/** @param labels -1 marks an image that could not be read: it does not count */
export function countHits(
  logits_NK: Float32Array,
  labels: Int32Array,
  classes: number,
  hits: Hits,
): void {
  for (const [row, label] of labels.entries()) {
    if (label < 0) continue;
    const logits = logits_NK.subarray(row * classes, (row + 1) * classes);
    const own = logits[label]!;
    // Ties go to the lower index, as argmax has it; NaN beats nobody.
    let better = 0;
    for (let k = 0; k < classes; k++) {
      if (logits[k]! > own || (logits[k] === own && k < label)) better += 1;
    }
    hits.images += 1;
    if (Number.isNaN(own)) continue;
    if (better < 1) hits.top1 += 1;
    if (better < 5) hits.top5 += 1;
  }
}

function concat({ images, top1, top5 }: Hits): Float32Array {
  return Float32Array.of(...splitCount(images), ...splitCount(top1), ...splitCount(top5));
}

function sumOverRanks(pairs: Float32Array, worldSize: number): Hits {
  const sum: Hits = { images: 0, top1: 0, top5: 0 };
  for (let rank = 0; rank < worldSize; rank++) {
    sum.images += joinCount(pairs, 3 * rank);
    sum.top1 += joinCount(pairs, 3 * rank + 1);
    sum.top5 += joinCount(pairs, 3 * rank + 2);
  }
  return sum;
}
