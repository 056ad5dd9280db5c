/** How often a classifier is right: counted on every rank, added up over the gang. */

import type { ProcessGroup } from "../collective/process-group.ts";
import { joinCount, splitCount } from "./sync-state.ts";

export interface Hits {
  images: number;
  top1: number;
  top5: number;
}

export interface Accuracy {
  /** Percent. */
  readonly top1: number;
  /** Percent; with fewer than 5 classes the top of them all. */
  readonly top5: number;
  /** Images that were looked at, over the gang. */
  readonly images: number;
}

/**
 * Adds the rows of a batch to `hits`.
 *
 * @param scores_NK logits or votes: the largest is the prediction
 * @param labels -1 marks an image that could not be read: it does not count
 */
export function countHits(
  scores_NK: Float32Array | Float64Array,
  labels: Int32Array,
  classes: number,
  hits: Hits,
): void {
  for (const [row, label] of labels.entries()) {
    if (label < 0) continue;
    const scores = scores_NK.subarray(row * classes, (row + 1) * classes);
    const own = scores[label]!;
    // Ties go to the lower index, as argmax has it; NaN beats nobody.
    let better = 0;
    for (let k = 0; k < classes; k++) {
      if (scores[k]! > own || (scores[k] === own && k < label)) better += 1;
    }
    hits.images += 1;
    if (Number.isNaN(own)) continue;
    if (better < 1) hits.top1 += 1;
    if (better < 5) hits.top5 += 1;
  }
}

/** The accuracies of several classifiers over the gang; one all-gather, the same on every rank. */
export function gatherAccuracies(group: ProcessGroup, own: readonly Hits[]): readonly Accuracy[] {
  const counts = own.flatMap(({ images, top1, top5 }) => [images, top1, top5]);
  const all = group.allGather(Float32Array.from(counts.flatMap((count) => [...splitCount(count)])));
  const sums = counts.map((_, at) => {
    let sum = 0;
    for (let rank = 0; rank < group.worldSize; rank++) {
      sum += joinCount(all, rank * counts.length + at);
    }
    return sum;
  });
  return own.map((_, at) => {
    const [images, top1, top5] = sums.slice(3 * at) as [number, number, number];
    const percent = (hits: number): number => (images === 0 ? 0 : (100 * hits) / images);
    return { images, top1: percent(top1), top5: percent(top5) };
  });
}
