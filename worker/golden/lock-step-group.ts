/**
 * A gang of many ranks in one thread.
 *
 * A rank's code blocks in a collective, so one thread cannot hold several ranks at once. It can run
 * them again and again: each round runs every rank from the start, answers the all-gathers whose
 * results are known and stops at the first one that is not; then every rank's contribution is
 * there. The cost grows with the square of the number of collectives.
 */

import assert from "node:assert/strict";
import type { ProcessGroup } from "../collective/process-group.ts";

class Paused extends Error {}

/**
 * Runs `body` as each rank of a gang and returns what each returned. `body` must be deterministic
 * and may gather only.
 */
export function runLockStep<T>(worldSize: number, body: (group: ProcessGroup) => T): readonly T[] {
  /** One entry per collective that all ranks have reached. */
  const known: Float32Array[] = [];
  for (;;) {
    const contributions: Float32Array[] = [];
    const results: T[] = [];
    for (let rank = 0; rank < worldSize; rank++) {
      try {
        results.push(body(replayingGroup(rank, worldSize, known, contributions)));
      } catch (thrown) {
        if (!(thrown instanceof Paused)) throw thrown;
      }
    }
    if (results.length === worldSize) return results;
    assert.equal(contributions.length, worldSize, "every rank makes the same collectives");
    known.push(concatenate(contributions));
  }
}

function replayingGroup(
  rank: number,
  worldSize: number,
  known: readonly Float32Array[],
  contributions: Float32Array[],
): ProcessGroup {
  let calls = 0;
  const unsupported = (): never => assert.fail("a lock-step gang can only gather");
  return {
    rank,
    worldSize,
    allReduceSeconds: 0,
    waitedSeconds: 0,
    allGather(own) {
      const result = known[calls++];
      if (result) return result.slice();
      contributions.push(own.slice());
      throw new Paused();
    },
    allocate: unsupported,
    allReduce: unsupported,
    reduceScatter: unsupported,
    broadcast: unsupported,
    barrier: unsupported,
  };
}

function concatenate(parts: readonly Float32Array[]): Float32Array {
  const lengths = new Set(parts.map(({ length }) => length));
  assert.equal(lengths.size, 1, "every rank contributes as many numbers");
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
