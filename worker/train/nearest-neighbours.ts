/**
 * Classification by the nearest neighbours, as mmselfsup's test_knn.py: cosine similarity, the k
 * nearest vote for their class with weight exp(similarity / T).
 *
 * The bank comes in any number of rows and is compared in blocks of a fixed size, so that every
 * product has the same shape, and its bits, whatever the number of workers. Memory: the queries,
 * one block of the bank, and the neighbours found so far.
 *
 * Shape letters: Q queries, B rows of a bank's block, F features.
 */

import assert from "node:assert/strict";
import type { Engine, Tensor } from "../engine/engine.ts";
import { normaliseRows } from "../loss/normalise-rows.ts";
import { countHits, type Hits } from "./hits.ts";
import { NeighbourLists } from "./neighbour-lists.ts";

const QUERY_ROWS = 256;
const BANK_ROWS = 1024;

export interface Labelled {
  /** [rows, F], not normalised. */
  readonly features: Float32Array;
  /** [rows]. */
  readonly labels: Int32Array;
}

export interface NearestNeighboursOptions {
  /** F */
  readonly width: number;
  /** Of the largest vote. */
  readonly neighbours: number;
  /** Is called before each product, and may throw. */
  readonly beforeBlock: () => void;
}

/** Lives within the scope of the engine that it was made in. */
export class NearestNeighbours {
  readonly #engine: Engine;
  readonly #options: NearestNeighboursOptions;
  readonly #labels: Int32Array;
  /** Normalised queries [QUERY_ROWS, F] each; the last is filled up with zeros. */
  readonly #queries: readonly Tensor[];
  readonly #lists: NeighbourLists;
  readonly #block: Float32Array;
  #blockRows = 0;
  readonly #bankLabels: number[] = [];

  constructor(engine: Engine, queries: Labelled, options: NearestNeighboursOptions) {
    const { width } = options;
    assert.equal(queries.features.length, queries.labels.length * width, "a label per query");
    this.#engine = engine;
    this.#options = options;
    this.#labels = queries.labels;
    this.#queries = uploadBlocks(engine, normaliseRows(queries.features, width), width);
    this.#lists = new NeighbourLists(queries.labels.length, options.neighbours);
    this.#block = new Float32Array(BANK_ROWS * width);
  }

  /** Adds an image to the bank; the order of the calls decides between equals. */
  add(features_F: Float32Array, label: number): void {
    const { width } = this.#options;
    this.#block.set(normaliseRows(features_F, width), this.#blockRows * width);
    this.#bankLabels.push(label);
    this.#blockRows += 1;
    if (this.#blockRows === BANK_ROWS) this.#compare();
  }

  /** How many queries the vote of each number of neighbours gets right. */
  hits(
    neighbours: readonly number[],
    vote: { readonly temperature: number; readonly classes: number },
  ): readonly Hits[] {
    if (this.#blockRows > 0) this.#compare();
    return neighbours.map((k) => {
      const hits: Hits = { images: 0, top1: 0, top5: 0 };
      for (const [query, label] of this.#labels.entries()) {
        const how = { ...vote, neighbours: k, labels: this.#bankLabels };
        countHits(this.#lists.votes(query, how), Int32Array.of(label), vote.classes, hits);
      }
      return hits;
    });
  }

  /** Compares the block with all queries, and empties it. */
  #compare(): void {
    const engine = this.#engine;
    const rows = this.#blockRows;
    const firstPlace = this.#bankLabels.length - rows;
    this.#block.fill(0, rows * this.#options.width);
    this.#blockRows = 0;
    engine.scope(() => {
      const bank = engine.upload(this.#block, [BANK_ROWS, this.#options.width]);
      for (const [block, queries] of this.#queries.entries()) {
        this.#options.beforeBlock();
        const similarities_QB = engine.scope(() => engine.download(engine.linear(queries, bank)));
        const first = block * QUERY_ROWS;
        const end = Math.min(this.#labels.length, first + QUERY_ROWS);
        for (let query = first; query < end; query++) {
          const begin = (query - first) * BANK_ROWS;
          this.#lists.offer(query, firstPlace, similarities_QB.subarray(begin, begin + rows));
        }
      }
    });
  }
}

function uploadBlocks(engine: Engine, rows: Float32Array, width: number): readonly Tensor[] {
  const blocks: Tensor[] = [];
  for (let begin = 0; begin < rows.length; begin += QUERY_ROWS * width) {
    const block = new Float32Array(QUERY_ROWS * width);
    block.set(rows.subarray(begin, begin + block.length));
    blocks.push(engine.upload(block, [QUERY_ROWS, width]));
  }
  return blocks;
}
