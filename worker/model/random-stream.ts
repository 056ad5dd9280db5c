/**
 * A stream of random numbers that depends on a seed and a name and nothing else, so that the
 * initial value of a tensor does not depend on which tensors were filled before it.
 *
 * The generator is sfc32 (Chris Doty-Humphrey, PractRand). Its 128 bits of state keep the streams
 * of a model's tensors from overlapping, which they would do with a 32-bit generator.
 */

const WARM_UP_ROUNDS = 16;

export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, name: string) {
    this.#a = seed | 0;
    this.#b = hash(name, 0x811c9dc5);
    this.#c = hash(name, 0x9e3779b9);
    for (let round = 0; round < WARM_UP_ROUNDS; round++) this.#bits();
  }

  /** Uniform in (0, 1), in steps of 2^-32. */
  uniform(): number {
    return (this.#bits() + 0.5) / 2 ** 32;
  }

  /** Standard normal, by the Box-Muller transform. */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  #bits(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}

/** FNV-1a over UTF-16 code units. */
function hash(text: string, basis: number): number {
  let h = basis;
  for (let k = 0; k < text.length; k++) h = Math.imul(h ^ text.charCodeAt(k), 0x01000193);
  return h;
}
