/**
 * Whether all ranks still hold the same.
 *
 * Sums are taken in one order and updates are the same everywhere, so replicas are equal to the
 * bit, for as long as memory and code do what they should. Every so many steps, and before each
 * checkpoint, the ranks compare a checksum of what they hold. It travels in one small all-gather,
 * and as all ranks see all checksums, all come to the same verdict.
 */

import assert from "node:assert/strict";
import xxhash from "xxhash-addon";
import { FleetError } from "../../proto/errors.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import type { HostTensor } from "../model/model-state.ts";
import type { StageContext } from "./stage-context.ts";

/** What all ranks hold alike, in an order that never changes: on the engine's device or beside. */
export type HeldTensors = Iterable<Tensor | HostTensor>;

/** A checksum in parts of 24, 24 and 16 bits, which floats hold exactly. */
const PARTS = 3;
/** The package crashes without one. */
const SEED = Buffer.alloc(4);

export class ReplicaCheck {
  readonly #engine: Engine;
  readonly #context: StageContext;
  readonly #held: () => HeldTensors;
  readonly #hash = new xxhash.XXHash3(SEED);
  /** Where a tensor lies while it is hashed; as large as the largest. */
  #scratch = new Float32Array(0);

  constructor(engine: Engine, context: StageContext, held: () => HeldTensors) {
    this.#engine = engine;
    this.#context = context;
    this.#held = held;
  }

  /**
   * Compares the replicas when the recipe asks for it after `step`. Called by all ranks.
   *
   * @param isKept whether a checkpoint of this step is to be written, or it is the last one
   * @throws {FleetError} REPLICAS_DIVERGED, the same on every rank; GENERATION_ABORTED
   */
  afterStep(step: number, isKept: boolean): void {
    const { group, job, runCheck = (_, check) => check() } = this.#context;
    const { checksumEverySteps } = job.recipe.elastic;
    const isDue = isKept || (checksumEverySteps > 0 && step % checksumEverySteps === 0);
    if (group.worldSize > 1 && isDue) runCheck("replicas", () => this.#compare(step));
  }

  #compare(step: number): void {
    const { group } = this.#context;
    const all = group.allGather(this.#checksum());
    const checksums = Array.from({ length: group.worldSize }, (_, rank) =>
      all.subarray(PARTS * rank, PARTS * (rank + 1)).join(),
    );
    const verdict = findDiverged(checksums);
    if (!verdict) return;
    const { ranks, others } = verdict;
    try {
      // Who leaves at once might take from others what they need to come to the same verdict.
      group.barrier();
    } catch {
      // A rank has left, which it did with the verdict that this one has, too.
    }
    const whose = others.length > 0 ? `than ${named(others)}` : "from one another";
    throw new FleetError(
      "REPLICAS_DIVERGED",
      `${named(ranks)} ${ranks.length > 1 ? "hold" : "holds"} other weights ${whose} ` +
        `after step ${step}; the gang goes back to its last checkpoint`,
      { step },
    );
  }

  #checksum(): Float32Array {
    this.#hash.reset();
    for (const tensor of this.#held()) {
      const { buffer, byteOffset, byteLength } = this.#dataOf(tensor);
      this.#hash.update(Buffer.from(buffer, byteOffset, byteLength));
    }
    const digest = this.#hash.digest();
    assert.equal(digest.length, 8, "XXH3 has 64 bits");
    return Float32Array.of(
      digest.readUIntBE(0, 3),
      digest.readUIntBE(3, 3),
      digest.readUIntBE(6, 2),
    );
  }

  #dataOf(tensor: Tensor | HostTensor): Float32Array {
    if ("data" in tensor) return tensor.data;
    const length = tensor.shape.reduce((product, size) => product * size, 1);
    if (this.#scratch.length < length) this.#scratch = new Float32Array(length);
    return this.#engine.download(tensor, this.#scratch.subarray(0, length));
  }
}

/** Who holds something else than most, or all when no value is held by more than half. */
function findDiverged(
  checksums: readonly string[],
): { readonly ranks: readonly number[]; readonly others: readonly number[] } | undefined {
  const ranks = [...checksums.keys()];
  const holders = (checksum: string): number[] =>
    ranks.filter((rank) => checksums[rank] === checksum);
  const most = checksums.map(holders).find((those) => 2 * those.length > ranks.length) ?? [];
  if (most.length === ranks.length) return undefined;
  return { ranks: ranks.filter((rank) => !most.includes(rank)), others: most };
}

/** e.g. "rank 2", "ranks 0, 1, 3" */
function named(ranks: readonly number[]): string {
  return `rank${ranks.length > 1 ? "s" : ""} ${ranks.join(", ")}`;
}
