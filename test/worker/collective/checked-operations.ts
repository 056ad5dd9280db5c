/** Collectives whose results every rank can tell without the others. */

import type { PeerGroup } from "../../../worker/collective/peer-group.ts";
import { type SharedFloats, sharedFloats } from "../../../worker/collective/process-group.ts";

export interface Operation {
  readonly kind: keyof typeof RUNS;
  /** Of the buffer, or of one rank's part for `all-gather` and `reduce-scatter`. */
  readonly floats: number;
}

export class WrongResult extends Error {}

/**
 * A rank's addend: different in neighbouring places and operations, so that nothing can be out of
 * place, and weighted by a bit of its own, so that a sum tells whose addends are in it. Sums over
 * 16 ranks stay below 2^24, so they are exact in any order.
 */
function addend(rank: number, index: number, i: number): number {
  return patternAt(index, i) * 2 ** rank;
}

function patternAt(index: number, i: number): number {
  return 1 + ((i + 7 * index) % 241);
}

/** Carries a list of operations out, again and again, in one buffer. */
export class CheckedOperations {
  readonly #group: PeerGroup;
  readonly #operations: readonly Operation[];
  readonly #memory: SharedFloats;
  /** What the running operation works on. */
  #buffer: Float32Array = new Float32Array(0);
  #index = 0;

  private constructor(group: PeerGroup, operations: readonly Operation[], memory: SharedFloats) {
    this.#group = group;
    this.#operations = operations;
    this.#memory = memory;
  }

  /** @param memory `allocated` by the gang, or `plain` memory of this process */
  static async in(
    memory: "allocated" | "plain",
    group: PeerGroup,
    operations: readonly Operation[],
  ): Promise<CheckedOperations> {
    const sizes = operations.map(({ kind, floats }) =>
      kind === "reduce-scatter" ? floats * group.worldSize : floats,
    );
    const size = Math.max(0, ...sizes);
    const floats = memory === "allocated" ? await group.allocate(size) : sharedFloats(size);
    return new CheckedOperations(group, operations, floats);
  }

  /** @throws {WrongResult}; what the group throws */
  async run(index: number): Promise<void> {
    const { kind, floats } = this.#operations[index % this.#operations.length]!;
    this.#index = index;
    await RUNS[kind]({
      group: this.#group,
      index,
      floats,
      fill: (length) => {
        const buffer = this.#memory.subarray(0, length);
        for (let i = 0; i < length; i++) buffer[i] = addend(this.#group.rank, index, i);
        this.#buffer = buffer;
        return buffer;
      },
    });
  }

  /** Whether data of other ranks has arrived in the buffer of the running operation. */
  get isUnderWay(): boolean {
    const { rank, worldSize } = this.#group;
    // Data arrives in slices, one per rank, each from its beginning.
    for (let slice = 0; slice < worldSize; slice++) {
      const i = Math.floor((slice * this.#buffer.length) / worldSize);
      if (this.#buffer[i] !== addend(rank, this.#index, i)) return true;
    }
    return false;
  }
}

interface Run {
  readonly group: PeerGroup;
  readonly index: number;
  readonly floats: number;
  /** A buffer with this rank's addends. */
  readonly fill: (length: number) => SharedFloats;
}

const RUNS = {
  "all-reduce": async ({ group, index, floats, fill }: Run) => {
    const buffer = fill(floats);
    await group.allReduce(buffer);
    check(buffer, (i) => patternAt(index, i) * weightOfAll(group));
  },
  "reduce-scatter": async ({ group, index, floats, fill }: Run) => {
    const buffer = fill(floats * group.worldSize);
    await group.reduceScatter(buffer);
    const begin = floats * group.rank;
    const own = buffer.subarray(begin, begin + floats);
    check(own, (i) => patternAt(index, begin + i) * weightOfAll(group));
  },
  "all-gather": async ({ group, index, floats, fill }: Run) => {
    const all = await group.allGather(fill(floats));
    for (let rank = 0; rank < group.worldSize; rank++) {
      const part = all.subarray(floats * rank, floats * (rank + 1));
      check(part, (i) => addend(rank, index, i));
    }
  },
  broadcast: async ({ group, index, floats, fill }: Run) => {
    const root = index % group.worldSize;
    const buffer = fill(floats);
    await group.broadcast(buffer, root);
    check(buffer, (i) => addend(root, index, i));
  },
  barrier: ({ group }: Run) => group.barrier(),
} as const;

function weightOfAll({ worldSize }: PeerGroup): number {
  return 2 ** worldSize - 1;
}

function check(floats: Float32Array, expectedAt: (i: number) => number): void {
  for (let i = 0; i < floats.length; i++) {
    if (floats[i] === expectedAt(i)) continue;
    throw new WrongResult(`element ${i} is ${floats[i]}, expected ${expectedAt(i)}`);
  }
}
