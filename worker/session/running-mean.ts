/** Means over the steps of a stage in which the latest count most. */

/** Weight of the newest step. */
const SMOOTHING = 0.1;

/** @param mean of the steps before; undefined when there was none */
export function runningMean(mean: number | undefined, newest: number): number {
  return mean === undefined ? newest : mean + SMOOTHING * (newest - mean);
}
