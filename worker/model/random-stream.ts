/**
 * A stream of random numbers that depends on a seed and a name and nothing else, so that the
 * initial value of a tensor does not depend on which tensors were filled before it.
 */

import { Sfc32 } from "../random/sfc32.ts";

const WARM_UP_ROUNDS = 16;

export class RandomStream {
  readonly #bits: Sfc32;

  constructor(seed: number, name: string) {
    this.#bits = new Sfc32([seed, hash(name, 0x811c9dc5), hash(name, 0x9e3779b9)], WARM_UP_ROUNDS);
  }

  /** Uniform in (0, 1), in steps of 2^-32. */
  uniform(): number {
    return (this.#bits.next() + 0.5) / 2 ** 32;
  }

  /** Standard normal, by the Box-Muller transform. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}

/** FNV-1a over UTF-16 code units. */
function hash(text: string, basis: number): number {
  let h = basis;
  for (let k = 0; k < text.length; k++) h = Math.imul(h ^ text.charCodeAt(k), 0x01000193);
  return h;
}
