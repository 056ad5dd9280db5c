/**
 * Forward and backward of a batch in parts, in the memory of one part.
 *
 * A contrastive loss compares every image with all others, so that gradients of parts cannot just
 * be added up. But it sees images through their embeddings only, which are small: all parts are
 * encoded first, the loss gives its gradient with respect to every embedding, and then each part is
 * encoded once more to carry its gradients back (GradCache: Gao, Zhang, Han and Callan,
 * arXiv:2101.06983, section 3). The last part's activations are kept, so that a batch of one part
 * is encoded once, and one of m parts 2m - 1 times.
 */

import assert from "node:assert/strict";
import { concatenate } from "../engine/concatenate.ts";
import type { BatchReducer, Engine, Moments, Tensor } from "../engine/engine.ts";
import type { NormMoments } from "../model/norm-moments.ts";
import type { GradientSink, PretrainModel } from "../model/pretrain-model.ts";
import type { PhaseClock } from "./phase-clock.ts";

export interface CachedBatch {
  readonly engine: Engine;
  readonly model: PretrainModel;
  /** Parts of the batch. */
  readonly parts: number;
  /** The images of a part. */
  readonly upload: (part: number) => Tensor;
  /** Of the statistics of as many parts as there are workers; absent for each part's own. */
  readonly reducer: BatchReducer | undefined;
  /** From the embeddings of all parts, part after part, to the gradient with respect to them. */
  readonly differentiate: (z_RD: Float32Array) => Float32Array;
  /** Gets the features of each part once, before its backward, in the order of the backwards. */
  readonly onFeatures: (features: Tensor, part: number) => void;
  readonly onGradient: GradientSink;
  readonly clock: PhaseClock;
}

interface EncodedPart {
  readonly images: Tensor;
  readonly features: Tensor;
  readonly z: Tensor;
}

/**
 * Runs inside a scope of the caller's.
 *
 * @returns the batch statistics of each part
 */
export function trainInParts(batch: CachedBatch): readonly NormMoments[] {
  const { engine, model, parts } = batch;
  const memories = Array.from({ length: parts }, () => batch.reducer && remember(batch.reducer));
  const statistics: NormMoments[] = [];
  const embeddings: Float32Array[] = [];
  const take = (z: Tensor): void => {
    embeddings.push(engine.download(z));
    statistics.push(model.batchMoments);
    batch.clock.end("forward");
  };
  const last = parts - 1;
  for (let part = 0; part < last; part++) {
    engine.scope(() => take(encode(batch, part, memories[part]?.first).z));
    model.dropActivations();
  }
  const kept = encode(batch, last, memories[last]?.first);
  take(kept.z);

  const dz_RD = batch.differentiate(concatenate(embeddings));
  const gradientOf = (part: number): Float32Array => {
    const length = dz_RD.length / parts;
    return dz_RD.subarray(part * length, (part + 1) * length);
  };
  carryBack(batch, last, kept, gradientOf(last));
  for (let part = 0; part < last; part++) {
    const again = encode(batch, part, memories[part]?.again);
    batch.clock.end("forward");
    carryBack(batch, part, again, gradientOf(part));
  }
  return statistics;
}

function encode(batch: CachedBatch, part: number, reducer: BatchReducer | undefined): EncodedPart {
  const images = batch.upload(part);
  return { images, ...batch.model.forwardTrain(images, reducer) };
}

/** Uses the part up. */
function carryBack(
  { engine, model, onFeatures, onGradient, clock }: CachedBatch,
  part: number,
  { images, features, z }: EncodedPart,
  dz_RD: Float32Array,
): void {
  onFeatures(features, part);
  clock.end("loss");
  const dz = engine.upload(dz_RD, z.shape);
  model.backward(dz, onGradient);
  engine.release(dz, images);
  clock.end("backward");
}

/**
 * Spares the second forward its exchanges: it has the same statistics as the first. The sums of
 * backward are exchanged by either.
 */
function remember(reducer: BatchReducer): {
  readonly first: BatchReducer;
  readonly again: BatchReducer;
} {
  const known: Moments[] = [];
  let used = 0;
  const sums = (values: Float32Array): void => reducer.sums(values);
  return {
    first: {
      sums,
      moments(local) {
        const moments = reducer.moments(local);
        known.push(moments);
        return moments;
      },
    },
    again: {
      sums,
      moments() {
        const moments = known[used++];
        assert.ok(moments, "the second forward has the norms of the first");
        return moments;
      },
    },
  };
}
