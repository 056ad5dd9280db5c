/**
 * The nearest neighbours of many queries, found while the bank goes by block after block, and their
 * vote. Pure. What is kept does not depend on how the bank is cut into blocks: of equal
 * similarities the earlier image is the nearer.
 */

export interface Vote {
  /** How many of the nearest vote. */
  readonly neighbours: number;
  /** A vote weighs exp(similarity / temperature). */
  readonly temperature: number;
  /** Label of each image of the bank. */
  readonly labels: readonly number[];
  readonly classes: number;
}

/** A heap per query, its worst neighbour on top. */
export class NeighbourLists {
  readonly #capacity: number;
  readonly #sizes: Int32Array;
  readonly #similarities: Float32Array;
  /** Places in the bank. */
  readonly #places: Int32Array;

  /** @param capacity neighbours that are kept of each query */
  constructor(queries: number, capacity: number) {
    this.#capacity = capacity;
    this.#sizes = new Int32Array(queries);
    this.#similarities = new Float32Array(queries * capacity);
    this.#places = new Int32Array(queries * capacity);
  }

  /**
   * Compares a query with the next images of the bank.
   *
   * @param firstPlace place of the first of them; places grow from call to call
   * @param similarities of the images from there on; NaN is no neighbour
   */
  offer(query: number, firstPlace: number, similarities: Float32Array): void {
    const begin = query * this.#capacity;
    for (let i = 0; i < similarities.length; i++) {
      const similarity = similarities[i]!;
      const size = this.#sizes[query]!;
      if (size < this.#capacity) {
        if (Number.isNaN(similarity)) continue;
        this.#sizes[query] = size + 1;
        this.#rise(begin, size, similarity, firstPlace + i);
      } else if (similarity > this.#similarities[begin]!) {
        this.#sink(begin, size, similarity, firstPlace + i);
      }
    }
  }

  /** Weight of each class's votes, summed from the nearest neighbour on. */
  votes(query: number, { neighbours, temperature, labels, classes }: Vote): Float64Array {
    const weights = new Float64Array(classes);
    for (const [similarity, place] of this.#nearest(query).slice(0, neighbours)) {
      weights[labels[place]!]! += Math.exp(similarity / temperature);
    }
    return weights;
  }

  #nearest(query: number): (readonly [similarity: number, place: number])[] {
    const begin = query * this.#capacity;
    const all = Array.from(
      { length: this.#sizes[query]! },
      (_, i) => [this.#similarities[begin + i]!, this.#places[begin + i]!] as const,
    );
    return all.sort(([s, p], [t, q]) => t - s || p - q);
  }

  /** Puts a new entry at the end of the heap and lets it rise to where it belongs. */
  #rise(begin: number, end: number, similarity: number, place: number): void {
    let at = end;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isWorse(similarity, place, begin + parent)) break;
      this.#move(begin + parent, begin + at);
      at = parent;
    }
    this.#put(begin + at, similarity, place);
  }

  /** Replaces the worst entry and lets the new one sink to where it belongs. */
  #sink(begin: number, size: number, similarity: number, place: number): void {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isEntryWorse(begin + child + 1, begin + child)) child += 1;
      if (this.#isWorse(similarity, place, begin + child)) break;
      this.#move(begin + child, begin + at);
      at = child;
    }
    this.#put(begin + at, similarity, place);
  }

  #isEntryWorse(entry: number, other: number): boolean {
    return this.#isWorse(this.#similarities[entry]!, this.#places[entry]!, other);
  }

  #isWorse(similarity: number, place: number, other: number): boolean {
    const found = this.#similarities[other]!;
    return similarity < found || (similarity === found && place > this.#places[other]!);
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#similarities[from]!, this.#places[from]!);
  }

  #put(entry: number, similarity: number, place: number): void {
    this.#similarities[entry] = similarity;
    this.#places[entry] = place;
  }
}
