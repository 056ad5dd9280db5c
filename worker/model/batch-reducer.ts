/** Synchronised batch norm: the statistics of the gang's whole batch, from those of each rank. */

import type { ProcessGroup } from "../collective/process-group.ts";
import type { BatchReducer, Moments } from "../engine/engine.ts";

/**
 * Costs one all-gather per call. Every rank combines the same numbers in rank order, in float64, so
 * that all get the same bits.
 */
export function createBatchReducer(group: ProcessGroup): BatchReducer {
  return {
    moments(local) {
      const own = new Float32Array([...local.mean, ...local.variance, local.count]);
      return combineMoments(group.allGather(own), local.mean.length);
    },
    sums(sums) {
      const gathered = group.allGather(sums);
      for (let k = 0; k < sums.length; k++) {
        let sum = 0;
        for (let at = k; at < gathered.length; at += sums.length) sum += gathered[at]!;
        sums[k] = sum;
      }
    },
  };
}

/**
 * Chan, Golub and LeVeque's rule for joining means and variances, which does not cancel as the
 * difference of mean square and squared mean would.
 * @param gathered per rank: mean of each channel, biased variance of each channel, count
 */
function combineMoments(gathered: Float32Array, channels: number): Moments {
  const mean = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let count = 0;
  const stride = 2 * channels + 1;
  for (let at = 0; at < gathered.length; at += stride) {
    const added = gathered[at + stride - 1]!;
    const total = count + added;
    for (let c = 0; c < channels; c++) {
      const delta = gathered[at + c]! - mean[c]!;
      mean[c]! += (delta * added) / total;
      squares[c]! += gathered[at + channels + c]! * added + (delta ** 2 * count * added) / total;
    }
    count = total;
  }
  return {
    mean: Float32Array.from(mean),
    variance: Float32Array.from(squares, (value) => value / count),
    count,
  };
}
