/**
 * Workers that live, and that their peers cannot reach. Their next gang would not come to a step
 * either, so they are planned with last, for a while. Pure.
 */

const SUSPICION_MS = 60_000;
/** Each time it is twice as long, up to this. */
const SUSPICION_MAX_MS = 60 * SUSPICION_MS;

const BRIEF_MS = 10_000;

export interface Suspicion {
  readonly endMs: number;
  readonly lastsMs: number;
}

/**
 * Those members of a gang that more than half of the others have lost.
 *
 * @param gang in rank order
 * @param lostRanks the ranks that members have named as lost, by worker
 */
export function suspectsOf(
  gang: readonly string[],
  lostRanks: ReadonlyMap<string, readonly number[]>,
): readonly string[] {
  return gang.filter((worker, rank) => {
    const others = gang.filter((other) => other !== worker);
    const accusers = others.filter((other) => lostRanks.get(other)?.includes(rank));
    return accusers.length > others.length / 2;
  });
}

/**
 * A suspicion of a worker that was within reach until now: for the next gang, if it need not wait
 * for it.
 *
 * @param earlier the last one of the same worker
 */
export function briefSuspicionAfter(earlier: Suspicion | undefined, nowMs: number): Suspicion {
  const { endMs = 0, lastsMs = SUSPICION_MS / 2 } = earlier ?? {};
  return { endMs: Math.max(endMs, nowMs + BRIEF_MS), lastsMs };
}

/** A suspicion of a worker that never was within reach; `earlier` is the last one of it. */
export function suspicionAfter(earlier: Suspicion | undefined, nowMs: number): Suspicion {
  const lastsMs = earlier ? Math.min(2 * earlier.lastsMs, SUSPICION_MAX_MS) : SUSPICION_MS;
  return { endMs: nowMs + lastsMs, lastsMs };
}
