/**
 * How good the features are, by classifiers that nothing depends on: nearest neighbours, and the
 * online probe on the validation images.
 *
 * The work is spread over the gang: each rank encodes its share of both splits and classifies its
 * share of the validation images. The bank of training images goes by all ranks batch after batch,
 * in the order of the data set; no rank ever holds more of it than a block.
 *
 * Shape letters: F features, B images per batch of a rank.
 */

import assert from "node:assert/strict";
import type { Batch } from "../data/batch-reader.ts";
import { indicesOf } from "../data/load-plan.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import { countHits, gatherAccuracies, type Hits } from "./hits.ts";
import { type Labelled, NearestNeighbours } from "./nearest-neighbours.ts";
import { type StageContext, throwIfStopped } from "./stage-context.ts";
import type { MonitorFigures, MonitorJob, MonitorSplit } from "./stage-job.ts";

/** A model with pooled features. */
interface FeatureModel {
  /** F */
  readonly features: number;
  /** From images [N, 3, H, W] to features [N, F], which the caller frees, while a scope lasts. */
  openEval(): (images: Tensor) => Tensor;
}

/** A classifier of features [N, F], to logits [N, K]. */
interface FeatureProbe {
  logits(features: Tensor): Tensor;
}

export interface Judged {
  readonly engine: Engine;
  readonly context: Pick<StageContext, "job" | "group">;
  readonly monitor: Pick<MonitorJob, "classes" | "splits">;
  /** Goes through a split; calls `visit` equally often on all ranks, in the end without a batch. */
  readonly passOver: (
    split: MonitorSplit,
    visit: (batch: Batch | undefined, step: number) => void,
  ) => void;
  readonly model: FeatureModel;
  readonly probe: FeatureProbe | undefined;
}

interface Encoding extends Judged {
  readonly featuresOf: (images: Tensor) => Tensor;
}

/** Called by all ranks; all get the same figures. */
export function judgeFeatures(judged: Judged): Omit<MonitorFigures, "step"> {
  const { engine, context, probe } = judged;
  const { knn } = context.job.recipe.pretrain.monitor;
  return engine.scope(() => {
    const encoding = { ...judged, featuresOf: judged.model.openEval() };
    const probeHits: Hits = { images: 0, top1: 0, top5: 0 };
    const queries = encodeQueries(encoding, probeHits);
    const knnHits = knn.enabled ? neighbourHits(encoding, queries) : [];
    const { job, group } = context;
    throwIfStopped(job);
    const accuracies = gatherAccuracies(group, [...knnHits, probeHits]);
    return {
      knn: knnHits.map((_, at) => ({ neighbours: knn.neighbours[at]!, ...accuracies[at]! })),
      probe: probe && accuracies.at(-1),
    };
  });
}

/** This rank's share of the validation images. */
function encodeQueries(judged: Encoding, hits: Hits): Labelled {
  const { engine, monitor, model, probe } = judged;
  const { plan, count } = monitor.splits.val;
  const share = indicesOf(plan, count, 0).length;
  const features = new Float32Array(share * model.features);
  const labels = new Int32Array(share);
  let rows = 0;
  judged.passOver("val", (batch) => {
    if (!batch?.count) return;
    encode(judged, batch, (tensor) => {
      features.set(engine.download(tensor), rows * model.features);
      if (probe) {
        countHits(engine.download(probe.logits(tensor)), batch.labels, monitor.classes, hits);
      }
    });
    labels.set(batch.labels, rows);
    rows += batch.count;
  });
  return {
    features: features.subarray(0, rows * model.features),
    labels: labels.subarray(0, rows),
  };
}

function neighbourHits(judged: Encoding, queries: Labelled): readonly Hits[] {
  const { engine, context, monitor, model } = judged;
  const { job, group } = context;
  const { knn } = job.recipe.pretrain.monitor;
  const nearest = new NearestNeighbours(engine, queries, {
    width: model.features,
    neighbours: Math.max(...knn.neighbours),
    beforeBlock: () => throwIfStopped(job),
  });
  const own = ownRows(judged);
  judged.passOver("train", (batch, step) => {
    own.fill(batch, step);
    const all = group.allGather(own.rows);
    // Rank r has images r, r + W, r + 2W, ...: taken in turns, they are in the data set's order.
    const rowLength = model.features + 1;
    const rowsPerRank = own.rows.length / rowLength;
    for (let row = 0; row < rowsPerRank; row++) {
      for (let rank = 0; rank < group.worldSize; rank++) {
        const begin = (rank * rowsPerRank + row) * rowLength;
        const label = all[begin + model.features]!;
        if (label >= 0) nearest.add(all.subarray(begin, begin + model.features), label);
      }
    }
  });
  return nearest.hits(knn.neighbours, { temperature: knn.temperature, classes: monitor.classes });
}

/** [B, F + 1]: features and label of this rank's images of a step, by their place in its share. */
function ownRows(judged: Encoding): {
  readonly rows: Float32Array;
  fill(batch: Batch | undefined, step: number): void;
} {
  const { engine, monitor, model } = judged;
  const { plan, count } = monitor.splits.train;
  const share = indicesOf(plan, count, 0);
  const rowLength = model.features + 1;
  const rows = new Float32Array(plan.batchPerWorker * rowLength);
  return {
    rows,
    fill(batch, step) {
      rows.fill(-1);
      if (!batch?.count) return;
      encode(judged, batch, (tensor) => {
        const features = engine.download(tensor);
        const begin = step * plan.batchPerWorker;
        let place = 0;
        for (let image = 0; image < batch.count; image++) {
          // Unreadable images have left their places empty.
          while (share[begin + place] !== batch.indices[image]) place += 1;
          assert.ok(place < plan.batchPerWorker, "a batch holds images of its step");
          const from = features.subarray(image * model.features, (image + 1) * model.features);
          rows.set(from, place * rowLength);
          rows[place * rowLength + model.features] = batch.labels[image]!;
        }
      });
    },
  };
}

/** Hands the features [N, F] of a batch to `use`, and frees them. */
function encode(
  { engine, context, featuresOf }: Encoding,
  batch: Batch,
  use: (features: Tensor) => void,
): void {
  const { data } = context.job.recipe;
  engine.scope(() => {
    const shape = [batch.count, 3, data.imageSize, data.imageSize];
    use(featuresOf(engine.uploadImages(batch.pixels, shape, data)));
  });
}
