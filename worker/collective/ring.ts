/**
 * Schedules of the ring: who sends which part of a buffer when. Data flows from each rank to the
 * next, (rank + 1) % worldSize.
 *
 * All-reduce cuts the buffer into one slice per rank. In the first W - 1 rounds each slice travels
 * once around and gathers every rank's addend (reduce-scatter); in the next W - 1 the finished
 * slices travel around once more and overwrite (all-gather). In round t, rank r sends slice r - t
 * and receives slice r - t - 1, so what was received in one round is what is sent in the next.
 *
 * Slice s starts at rank s and is summed in the order s, s + 1, ... s - 1, always. One rank alone,
 * s - 1, adds the last addend; the others copy its result: all hold the same bits.
 *
 * Reduce-scatter alone shifts this by one rank, so that slice r ends at rank r: in round t, rank r
 * sends slice r - t - 1. Slice s is then summed in the order s + 1, s + 2, ... s, always.
 *
 * Slices travel in chunks, and a chunk is passed on as soon as it is there.
 */

export type SumKind = "reduce" | "scatter";

interface Move {
  readonly round: number;
  readonly chunkIndex: number;
  readonly chunkCount: number;
  /** The floats [begin, end) of the buffer. */
  readonly begin: number;
  readonly end: number;
}

interface Send extends Move {
  /** How many receives must be complete before this chunk holds what is to be sent. */
  readonly after: number;
}

export interface Receive extends Move {
  /** `finish` adds too, and is the slice's last addition. */
  readonly action: "add" | "finish" | "store";
}

/** Both lists in the order in which they happen on the stream. */
export interface RingPlan {
  readonly sends: readonly Send[];
  readonly receives: readonly Receive[];
}

export interface RingPlace {
  readonly rank: number;
  readonly worldSize: number;
}

export interface RingSize {
  /** Floats in the buffer. */
  readonly length: number;
  readonly chunkFloats: number;
}

export function planAllReduce(place: RingPlace, size: RingSize): RingPlan {
  const { rank, worldSize } = place;
  const actions = Array.from({ length: 2 * (worldSize - 1) }, (_, round) =>
    actionIn(round, worldSize),
  );
  return planRounds(place, size, { firstSlice: rank, actions });
}

/** Rank r ends up with the sum of slice r; its other slices hold parts of sums. */
export function planReduceScatter(place: RingPlace, size: RingSize): RingPlan {
  const { rank, worldSize } = place;
  // Nobody else reads the sums, so nothing rounds them to the wire.
  const actions = new Array<"add">(worldSize - 1).fill("add");
  return planRounds(place, size, { firstSlice: rank - 1, actions });
}

interface Rounds {
  /** Sent in round 0; each round sends the slice before the last one's. */
  readonly firstSlice: number;
  /** One per round. */
  readonly actions: readonly Receive["action"][];
}

function planRounds({ worldSize }: RingPlace, size: RingSize, rounds: Rounds): RingPlan {
  const sends: Send[] = [];
  const receives: Receive[] = [];
  for (const [round, action] of rounds.actions.entries()) {
    const sent = sliceOf(rounds.firstSlice - round, worldSize, size.length);
    // Received in the round before, chunk by chunk: that is where those receives begin.
    const base = receives.length - chunkCountOf(sent, size.chunkFloats);
    for (const move of chunks(round, sent, size.chunkFloats)) {
      sends.push({ ...move, after: round === 0 ? 0 : base + move.chunkIndex + 1 });
    }
    const received = sliceOf(rounds.firstSlice - round - 1, worldSize, size.length);
    for (const move of chunks(round, received, size.chunkFloats)) {
      receives.push({ ...move, action });
    }
  }
  return { sends, receives };
}

/** The root's buffer goes around until the rank before the root has it. */
export function planBroadcast(
  { rank, worldSize }: RingPlace,
  size: RingSize & { readonly root: number },
): RingPlan {
  const distance = (rank - size.root + worldSize) % worldSize;
  const moves = chunks(0, { begin: 0, end: size.length }, size.chunkFloats);
  const isRoot = distance === 0;
  const isLast = distance === worldSize - 1;
  return {
    sends: isLast ? [] : moves.map((move, i) => ({ ...move, after: isRoot ? 0 : i + 1 })),
    receives: isRoot ? [] : moves.map((move) => ({ ...move, action: "store" as const })),
  };
}

/** The floats [begin, end) of a buffer. */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

/** Slice `index` (taken modulo the world size) of `length` floats; sizes differ by one at most. */
export function sliceOf(index: number, worldSize: number, length: number): Range {
  const i = ((index % worldSize) + worldSize) % worldSize;
  return {
    begin: Math.floor((i * length) / worldSize),
    end: Math.floor(((i + 1) * length) / worldSize),
  };
}

function actionIn(round: number, worldSize: number): Receive["action"] {
  if (round < worldSize - 2) return "add";
  return round === worldSize - 2 ? "finish" : "store";
}

/** An empty range is one empty chunk, so that each round shows itself on the stream. */
function chunkCountOf({ begin, end }: Range, chunkFloats: number): number {
  return Math.max(1, Math.ceil((end - begin) / chunkFloats));
}

function chunks(round: number, range: Range, chunkFloats: number): Move[] {
  const chunkCount = chunkCountOf(range, chunkFloats);
  return Array.from({ length: chunkCount }, (_, chunkIndex) => {
    const begin = range.begin + chunkIndex * chunkFloats;
    return { round, chunkIndex, chunkCount, begin, end: Math.min(begin + chunkFloats, range.end) };
  });
}
