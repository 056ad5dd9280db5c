/**
 * Gradients on their way to the other ranks.
 *
 * All gradients lie in one shared buffer, last parameters first, because backward produces them in
 * that order. The buffer is cut into buckets of about `bucketBytes`; as soon as the last gradient
 * of a bucket has been stored, all are looked at, and the bucket's all-reduce starts while backward
 * goes on. A worker that trains on several micro-batches in a step adds their gradients up first.
 */

import assert from "node:assert/strict";
import type { ProcessGroup, SharedFloats, Work } from "../collective/process-group.ts";
import type { Engine, Tensor } from "../engine/engine.ts";
import { sumGradient } from "./micro-batches.ts";

interface Slot {
  readonly bucket: number;
  readonly gradient: SharedFloats;
}

interface Bucket {
  readonly floats: SharedFloats;
  readonly parameters: readonly number[];
}

export interface BucketOptions {
  readonly bucketBytes: number;
  /** Gradients that each parameter gets in a step. */
  readonly microBatches: number;
  /** Looks at a gradient before any rank can see it; when it throws, none does. */
  readonly check: (parameter: number, gradient: Float32Array) => void;
}

export class GradientBuckets {
  readonly #engine: Engine;
  readonly #group: ProcessGroup;
  readonly #slots: readonly Slot[];
  readonly #buckets: readonly Bucket[];
  readonly #check: BucketOptions["check"];
  readonly #microBatches: number;
  /** A gradient on its way to what it is added to. */
  readonly #scratch: Float32Array | undefined;
  /** Gradients that each parameter has got in this step. */
  readonly #added: Uint32Array;
  /** Gradients that each bucket still lacks. */
  #missing: number[] = [];
  #works: Work[] = [];

  /** @param sizes elements of each parameter, in the order of the model's parameters */
  constructor(
    engine: Engine,
    group: ProcessGroup,
    sizes: readonly number[],
    { bucketBytes, microBatches, check }: BucketOptions,
  ) {
    this.#engine = engine;
    this.#group = group;
    this.#check = check;
    this.#microBatches = microBatches;
    this.#scratch = microBatches > 1 ? new Float32Array(Math.max(...sizes)) : undefined;
    this.#added = new Uint32Array(sizes.length);
    const layout = layOut(group, sizes, bucketBytes);
    this.#slots = layout.slots;
    this.#buckets = layout.buckets;
    this.#reset();
  }

  /**
   * Stores a gradient of this rank, or adds it to those of the micro-batches before; starts the
   * bucket's all-reduce when it is the last one in it.
   *
   * @throws whatever the check of a gradient throws; then the bucket stays on this rank
   */
  add(parameter: number, gradient: Tensor): void {
    const slot = this.#slots[parameter];
    assert.ok(slot, `there is no parameter ${parameter}`);
    const before = this.#added[parameter]!;
    assert.ok(
      before < this.#microBatches,
      `parameter ${parameter} has gradient ${before + 1} of ${this.#microBatches} in one step`,
    );
    const scratch = this.#scratch && { scratch: this.#scratch };
    sumGradient(this.#engine, gradient, slot.gradient, { isFirst: before === 0, ...scratch });
    this.#added[parameter] = before + 1;
    const missing = this.#missing[slot.bucket]! - 1;
    this.#missing[slot.bucket] = missing;
    if (missing > 0) return;
    this.#start(slot.bucket);
  }

  /** Blocks until every gradient is the sum over all ranks, and opens the next step. */
  finish(): void {
    assert.ok(
      this.#missing.every((missing) => missing === 0),
      "backward left a parameter without gradient",
    );
    for (const work of this.#works) work.wait();
    this.#reset();
  }

  /** The gradient of a parameter, valid after {@link finish} until the next {@link add}. */
  gradient(parameter: number): SharedFloats {
    const slot = this.#slots[parameter];
    assert.ok(slot, `there is no parameter ${parameter}`);
    return slot.gradient;
  }

  #start(index: number): void {
    const bucket = this.#buckets[index];
    assert.ok(bucket);
    for (const each of bucket.parameters) this.#check(each, this.gradient(each));
    this.#works.push(this.#group.allReduce(bucket.floats));
  }

  #reset(): void {
    this.#added.fill(0);
    this.#missing = this.#buckets.map(({ parameters }) => parameters.length * this.#microBatches);
    this.#works = [];
  }
}

function layOut(
  group: ProcessGroup,
  sizes: readonly number[],
  bucketBytes: number,
): { readonly slots: readonly Slot[]; readonly buckets: readonly Bucket[] } {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const shared = group.allocate(total);
  const slots: Slot[] = [];
  const buckets: Bucket[] = [];
  let begin = 0;
  let parameters: number[] = [];
  let at = 0;
  const close = (): void => {
    buckets.push({ floats: shared.subarray(begin, at), parameters });
    begin = at;
    parameters = [];
  };
  for (let parameter = sizes.length - 1; parameter >= 0; parameter--) {
    const size = sizes[parameter]!;
    slots[parameter] = {
      bucket: buckets.length,
      gradient: shared.subarray(at, at + size),
    };
    at += size;
    parameters.push(parameter);
    if ((at - begin) * 4 >= bucketBytes || parameter === 0) close();
  }
  return { slots, buckets };
}
