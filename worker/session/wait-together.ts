/**
 * Work that every rank does by itself, and that may take one of them much longer than the others:
 * an index of a large archive, on slow storage or where another host has kept it.
 *
 * A collective would take a rank that is late for one without progress. So the ranks tell one
 * another, every second at least, whether they are done, until all are.
 */

import type { PeerGroup } from "../collective/peer-group.ts";

const TELL_MS = 1000;

/**
 * Resolves with the own result once all ranks have theirs.
 *
 * @throws whatever `own` rejects with, at once
 * @throws {FleetError} GENERATION_ABORTED
 */
export async function waitTogether<Result>(
  group: Pick<PeerGroup, "allGather">,
  own: Promise<Result>,
): Promise<Result> {
  // The group may end first; then nobody else hears of it.
  own.catch(() => {});
  for (;;) {
    const isDone = await isSettledSoon(own);
    const done = await group.allGather(Float32Array.of(Number(isDone)));
    if (done.every((each) => each === 1)) return own;
  }
}

async function isSettledSoon(own: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const later = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), TELL_MS);
  });
  try {
    return await Promise.race([own.then(() => true), later]);
  } finally {
    clearTimeout(timer);
  }
}
