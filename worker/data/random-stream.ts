/**
 * Chance for augmentation: a stream of numbers that is a function of its key.
 *
 * The key names the image, not the worker or the thread that happens to load it, so the views of an
 * epoch are the same however the work is spread. Generator: sfc32 (Chris Doty-Humphrey's
 * PractRand), 128 bits of state, filled from the key by a mixing function.
 */

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
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor({ seed, epoch, index, view }: StreamKey) {
    this.#a = mix(seed ^ 0x9e3779b9);
    this.#b = mix(this.#a ^ epoch);
    this.#c = mix(this.#b ^ index);
    this.#a ^= mix(this.#c ^ view);
    for (let i = 0; i < WARM_UP; i++) this.#bits();
  }

  /** Uniform in [0, 1), in steps of 2^-32. */
  next(): number {
    return this.#bits() / 2 ** 32;
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

  #bits(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}

/** A bijection of 32-bit integers that spreads every input bit (the finaliser of MurmurHash3). */
function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
