/**
 * How many workers may share a stage. The recipe gives a stage its ranks, which decide the numbers;
 * each of its workers takes the same count of them, so only divisors will do.
 */

/** The part of `recipe.elastic` that bounds a gang; as in recipe.ts. */
export interface WorkerBounds {
  readonly minWorkers?: number | undefined;
  readonly maxWorkers?: number | undefined;
}

/**
 * The world sizes that a stage of `ranks` ranks may have, largest first: the divisors of `ranks`
 * from `minWorkers` (the largest that is allowed, when absent) to `maxWorkers` (`ranks`, when
 * absent). A bound above `ranks` means all of them. Empty when no divisor lies between.
 */
export function worldSizes(ranks: number, bounds: WorkerBounds): readonly number[] {
  const { minWorkers, maxWorkers = ranks } = bounds;
  const upTo = divisors(ranks).filter((size) => size <= maxWorkers);
  const most = upTo.at(-1) ?? 1;
  const least = Math.min(minWorkers ?? most, ranks);
  return upTo.filter((size) => size >= least).toReversed();
}

/** What is wrong with bounds that leave a stage no world size; undefined when they leave one. */
export function boundsProblem(
  stage: string,
  ranks: number,
  bounds: WorkerBounds,
): string | undefined {
  if (worldSizes(ranks, bounds).length > 0) return undefined;
  const { minWorkers, maxWorkers = ranks } = bounds;
  const wanted = minWorkers === maxWorkers ? `${minWorkers}` : `${minWorkers} to ${maxWorkers}`;
  const choices = divisors(ranks).join(", ");
  return `${wanted} workers cannot share the ${ranks} ranks of ${stage} evenly: choose ${choices}`;
}

function divisors(ranks: number): number[] {
  const candidates = Array.from({ length: ranks }, (_, index) => index + 1);
  return candidates.filter((size) => ranks % size === 0);
}
