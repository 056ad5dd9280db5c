/**
 * Chance for augmentation: a stream of numbers that is a function of its key.
 *
 * The key names the image, not the worker or the thread that happens to load it, so the views of an
 * epoch are the same however the work is spread.
 */

import { Sfc32 } from "../random/sfc32.ts";

/** What a stream depends on; every part is taken modulo 2^32. */
export interface StreamKey {
  readonly seed: number;
  readonly epoch: number;
  /** Number of the image in the data set. */
  readonly index: number;
  readonly view: number;
}

/** Outputs that are thrown away, until every bit of the key has reached every bit of the state. */
const WARM_UP = 12;

export class RandomStream {
  readonly #bits: Sfc32;

  constructor({ seed, epoch, index, view }: StreamKey) {
    const a = mix(seed ^ 0x9e3779b9);
    const b = mix(a ^ epoch);
    const c = mix(b ^ index);
    this.#bits = new Sfc32([a ^ mix(c ^ view), b, c], WARM_UP);
  }

  /** Uniform in [0, 1), in steps of 2^-32. */
  next(): number {
    return this.#bits.next() / 2 ** 32;
  }

  /** Uniform in [low, high). */
  uniform(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** Uniform integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** True with the given probability: never for 0, always for 1. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** The numbers 0 to count - 1 in random order. */
  permutation(count: number): number[] {
    const order = Array.from({ length: count }, (_, i) => i);
    for (let i = count - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }
}

/** A bijection of 32-bit integers that spreads every input bit (the finaliser of MurmurHash3). */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
