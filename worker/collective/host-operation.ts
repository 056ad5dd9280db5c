/** What is under way in shared memory, and what there is to do for it: see host-lane.ts. */

import { frameError } from "./frame.ts";
import type { HostMemory } from "./host-memory.ts";
import { type Range, type SumKind, sliceOf } from "./ring.ts";
import type { Waiter } from "./small-lane.ts";

/** Summed or copied without a look at the clock. */
const CHUNK_FLOATS = 256 * 1024;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** What a rank says of an operation when it shares its addends: all have to say the same. */
export interface Share {
  readonly kind: SumKind;
  readonly memory: number;
  readonly begin: number;
  readonly length: number;
}

export interface HostOperation {
  readonly rank: number;
  readonly worldSize: number;
  readonly sequence: number;
  readonly share: Share;
  readonly memory: HostMemory;
  readonly waiter: Waiter;
  /** Ranks that have not said so yet. */
  readonly unshared: Set<number>;
  readonly uncopied: Set<number>;
  /** By rank, how many chunks of the slice that it sums are sums, and how many this rank copied. */
  readonly summed: number[];
  readonly copied: number[];
  /** Of this rank's own slice, how many chunks the others know of. */
  announced: number;
  hasSaidCopied: boolean;
  /** When it came first in line; undefined before. */
  turnAt: number | undefined;
}

type Given = "rank" | "worldSize" | "sequence" | "share" | "memory" | "waiter";

export function newOperation(given: Pick<HostOperation, Given>): HostOperation {
  const ranks = Array.from({ length: given.worldSize }, (_, rank) => rank);
  const others = ranks.filter((rank) => rank !== given.rank);
  return {
    ...given,
    unshared: new Set(others),
    uncopied: new Set(others),
    summed: ranks.map(() => 0),
    copied: ranks.map(() => 0),
    announced: 0,
    hasSaidCopied: false,
    turnAt: undefined,
  };
}

/**
 * Takes down that a rank has shared.
 *
 * @throws {FleetError} GENERATION_ABORTED, MISMATCHED, when it does something else here
 */
export function matchShare(
  { share, unshared }: HostOperation,
  rank: number,
  theirs: Partial<Share>,
): void {
  const isSame = SHARE_KEYS.every((key) => theirs[key] === share[key]);
  if (!isSame) {
    const [said, own] = [JSON.stringify(theirs), JSON.stringify(share)];
    throw frameError("MISMATCHED", `rank ${rank} shares ${said} where this rank has ${own}`);
  }
  unshared.delete(rank);
}

const SHARE_KEYS = ["kind", "memory", "begin", "length"] as const satisfies (keyof Share)[];

/** Every rank has said the last of it. */
export function isOver({ hasSaidCopied, uncopied }: HostOperation): boolean {
  return hasSaidCopied && uncopied.size === 0;
}

/** The slice that the ring would finish at `rank`, in the floats of a memory. */
function sliceAt({ share, worldSize }: HostOperation, rank: number): Range {
  const index = share.kind === "reduce" ? rank + 1 : rank;
  const { begin, end } = sliceOf(index, worldSize, share.length);
  return { begin: share.begin + begin, end: share.begin + end };
}

/** In how many chunks the slice of `rank` is summed. */
export function chunksOf(operation: HostOperation, rank: number): number {
  const { begin, end } = sliceAt(operation, rank);
  return Math.ceil((end - begin) / CHUNK_FLOATS);
}

export function chunkAt(operation: HostOperation, rank: number, index: number): Range {
  const slice = sliceAt(operation, rank);
  const begin = slice.begin + index * CHUNK_FLOATS;
  return { begin, end: Math.min(begin + CHUNK_FLOATS, slice.end) };
}

/** From the rank after `last` to `last`: in this order the ring sums the slice of `last`. */
export function inOrder<T>(byRank: readonly T[], last: number): readonly T[] {
  return [...byRank.slice(last + 1), ...byRank.slice(0, last + 1)];
}

/** The ranks whose slices this rank lacks in part; itself, while it has not summed its own. */
export function missingSlices(operation: HostOperation): ReadonlySet<number> {
  const { rank: own, summed, copied, share } = operation;
  const isMissing = (rank: number) => {
    if (rank === own) return summed[rank]! < chunksOf(operation, rank);
    return share.kind === "reduce" && copied[rank]! < chunksOf(operation, rank);
  };
  return new Set([...summed.keys()].filter(isMissing));
}

export function totalBytesOf({ share }: HostOperation): number {
  return share.length * FLOAT_BYTES;
}
