/** A small seeded generator (mulberry32): equal seeds draw equal images on every machine. */
export class Chance {
  #state: number;

  /** @param seed its low 32 bits count */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [low, high). */
  uniform(low: number, high: number): number {
    return low + this.#next() * (high - low);
  }

  /** Uniform integer in [0, count). */
  below(count: number): number {
    return Math.floor(this.#next() * count);
  }

  /** Roughly normal, standard deviation 1: the sum of four uniforms. */
  bell(): number {
    const sum = this.#next() + this.#next() + this.#next() + this.#next();
    return (sum - 2) * Math.sqrt(3);
  }

  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}
