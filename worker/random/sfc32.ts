/**
 * The generator under every random stream of a worker: sfc32 (Chris Doty-Humphrey, PractRand). Its
 * 128 bits of state keep streams from overlapping, which they would do with a 32-bit generator.
 */
export class Sfc32 {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /**
   * @param seed 96 bits, as three integers that are taken modulo 2^32
   * @param warmUp outputs that are thrown away, until every bit of the seed has reached every bit
   * of
   *   the state
   */
  constructor([a, b, c]: readonly [number, number, number], warmUp: number) {
    this.#a = a | 0;
    this.#b = b | 0;
    this.#c = c | 0;
    for (let round = 0; round < warmUp; round++) this.next();
  }

  /** A uniform integer in [0, 2^32). */
  next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}
