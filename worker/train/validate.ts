/** Top-1 and top-5 over the whole validation set, each image counted once. */

import assert from "node:assert/strict";
import type { BatchReader } from "../data/batch-reader.ts";
import type { Engine } from "../engine/engine.ts";
import type { LinearModel } from "../model/linear-model.ts";
import { type Accuracy, countHits, gatherAccuracies, type Hits } from "./hits.ts";
import { countPredictions } from "./predictions.ts";
import { type StageContext, throwIfStopped } from "./stage-context.ts";

/**
 * Runs one pass; every rank gets the same figures.
 *
 * @param predictions receives this rank's counts, by true and predicted class
 */
export function validate(
  engine: Engine,
  context: StageContext,
  model: LinearModel,
  batches: BatchReader,
  predictions: Int32Array,
): Accuracy {
  const { job, group } = context;
  const { data, linear } = job.recipe;
  predictions.fill(0);
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
      countPredictions(logits, batch.labels, linear.classes, predictions);
    }
    batches.done();
  }
  const [accuracy] = gatherAccuracies(group, [own]);
  assert.ok(accuracy, "one classifier, one accuracy");
  return accuracy;
}
