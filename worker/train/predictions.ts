/** Which classes a classifier takes for which. */

import type { ProcessGroup } from "../collective/process-group.ts";

/** Counts that are gathered at a time: as many as fit into a small message. */
const SLICE = 65_536;

/**
 * Adds a batch to `counts`, one row per true class and one column per predicted one. Ties go to
 * the lower class, as argmax has it.
 *
 * @param labels -1 marks an image that could not be read: it does not count. Neither does one with
 *   NaN for every logit
 */
export function countPredictions(
  logits_NK: Float32Array,
  labels: Int32Array,
  classes: number,
  counts: Int32Array,
): void {
  for (const [row, label] of labels.entries()) {
    if (label < 0) continue;
    let best = Number.NEGATIVE_INFINITY;
    let predicted = -1;
    for (let k = 0; k < classes; k++) {
      const logit = logits_NK[row * classes + k]!;
      if (logit > best || (predicted < 0 && logit === best)) {
        best = logit;
        predicted = k;
      }
    }
    if (predicted >= 0) counts[label * classes + predicted]! += 1;
  }
}

/** The sum of all ranks' counts, on every rank. A float carries a count below 2^24 exactly. */
export function sumPredictions(group: ProcessGroup, counts: Int32Array): Int32Array {
  const sums = new Int32Array(counts.length);
  for (let begin = 0; begin < counts.length; begin += SLICE) {
    const own = Float32Array.from(counts.subarray(begin, begin + SLICE));
    const gathered = group.allGather(own);
    for (const [i, count] of gathered.entries()) sums[begin + (i % own.length)]! += count;
  }
  return sums;
}
