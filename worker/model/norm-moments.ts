/** The batch statistics of all norms of a model, and their mean over batches and workers. */

import type { ProcessGroup } from "../collective/process-group.ts";
import { concatenate } from "../engine/concatenate.ts";
import type { Moments } from "../engine/engine.ts";

/** By name of the norm; of one training forward. */
export type NormMoments = ReadonlyMap<string, Moments>;

/**
 * The mean of each norm's means, and of its variances, over batches of one size. As all have the
 * same count, the mean of unbiased variances is the unbiased mean variance.
 *
 * @param batches at least one; of a single one nothing is rounded
 */
export function meanMoments(batches: readonly NormMoments[]): NormMoments {
  const [first, ...others] = batches;
  if (!first || others.length === 0) return first ?? new Map();
  return unpacked(first, meanOf(batches.map((batch) => packed(batch))));
}

/**
 * {@link meanMoments} over the workers of a gang, the same bits on all of them. Costs one
 * all-gather, which keeps float32 whatever gradients are rounded to on the wire.
 *
 * @throws {FleetError} GENERATION_ABORTED
 */
export function gangMoments(group: ProcessGroup, own: NormMoments): NormMoments {
  if (group.worldSize === 1) return own;
  const all = group.allGather(packed(own));
  const length = all.length / group.worldSize;
  const workers = Array.from({ length: group.worldSize }, (_, rank) =>
    all.subarray(rank * length, (rank + 1) * length),
  );
  return unpacked(own, meanOf(workers));
}

/** Mean and variance of each norm, one norm after the other. */
function packed(batch: NormMoments): Float32Array {
  return concatenate([...batch.values()].flatMap(({ mean, variance }) => [mean, variance]));
}

/** @param like says names, channels and counts */
function unpacked(like: NormMoments, flat: Float32Array): NormMoments {
  let at = 0;
  return new Map(
    [...like].map(
      ([
        norm,
        {
          mean: { length },
          count,
        },
      ]) => {
        const mean = flat.subarray(at, at + length);
        const variance = flat.subarray(at + length, at + 2 * length);
        at += 2 * length;
        return [norm, { mean, variance, count }];
      },
    ),
  );
}

/** Element by element, in float64. */
function meanOf(rows: readonly Float32Array[]): Float32Array {
  const sums = new Float64Array(rows[0]?.length ?? 0);
  for (const row of rows) {
    for (let k = 0; k < sums.length; k++) sums[k]! += row[k]!;
  }
  return Float32Array.from(sums, (sum) => sum / rows.length);
}
