import assert from "node:assert/strict";
import { FleetError } from "../../../proto/errors.ts";
import type { Engine } from "../../../worker/engine/engine.ts";
import type { Hits } from "../../../worker/train/hits.ts";
import { type Labelled, NearestNeighbours } from "../../../worker/train/nearest-neighbours.ts";
import { describeEngines } from "../../support/engines.ts";
import { Prng } from "../../support/prng.ts";

const WIDTH = 24;
const CLASSES = 12;
const VOTE = { temperature: 0.07, classes: CLASSES };

/** Noise around a direction per class. */
function drawImages(seed: number, count: number): Labelled {
  const prng = new Prng(seed);
  const labels = Int32Array.from({ length: count }, () => prng.int(0, CLASSES - 1));
  const features = Float32Array.from(
    { length: count * WIDTH },
    (_, at) => (labels[Math.floor(at / WIDTH)] === at % WIDTH ? 1.5 : 0) + 2 * prng.next(),
  );
  return { features, labels };
}

const rowOf = ({ features }: Labelled, row: number): Float32Array =>
  features.subarray(row * WIDTH, (row + 1) * WIDTH);

function classify(engine: Engine, neighbours: readonly number[]) {
  return engine.scope(() => {
    const options = { width: WIDTH, neighbours: Math.max(...neighbours), beforeBlock: () => {} };
    const nearest = new NearestNeighbours(engine, queries, options);
    for (const [row, label] of bank.labels.entries()) nearest.add(rowOf(bank, row), label);
    return nearest.hits(neighbours, VOTE);
  });
}

/** test_knn.py of mmselfsup in float64: for each query, how many classes have more votes. */
function ranksOf(neighbours: number): number[] {
  const normalised = (images: Labelled): number[][] =>
    Array.from(images.labels, (_, row) => {
      const values = [...rowOf(images, row)];
      const length = Math.hypot(...values);
      return values.map((value) => value / length);
    });
  const rows = normalised(bank);
  return normalised(queries).map((query, at) => {
    const found = rows.map((row, place) => {
      let cosine = 0;
      for (const [f, value] of row.entries()) cosine += value * query[f]!;
      return [cosine, bank.labels[place]!] as const;
    });
    const votes = new Array<number>(CLASSES).fill(0);
    for (const [cosine, label] of found.sort(([a], [b]) => b - a).slice(0, neighbours)) {
      votes[label]! += Math.exp(cosine / VOTE.temperature);
    }
    return votes.filter((vote) => vote > votes[queries.labels[at]!]!).length;
  });
}

const bank = drawImages(1, 1100);
const queries = drawImages(2, 300);
const expected = [20, 200].map((neighbours): Hits => {
  const ranks = ranksOf(neighbours);
  const within = (top: number): number => ranks.filter((rank) => rank < top).length;
  return { images: ranks.length, top1: within(1), top5: within(5) };
});

describeEngines("nearest neighbours", (engine) => {
  it("vote as they do in mmselfsup's test_knn", () => {
    assert.deepEqual(classify(engine(), [20, 200]), expected);
    assert.ok(expected[0]!.top1 > 100 && expected[0]!.top1 < 280, "the task is no trifle");
  });

  it("give every query the same similarities wherever it stands among the others", () => {
    const [first, last] = engine().scope(() => {
      const rows = 256;
      const bankRows = engine().upload(bank.features.slice(0, 1024 * WIDTH), [1024, WIDTH]);
      return [0, rows - 1].map((place) => {
        const padded = new Float32Array(rows * WIDTH);
        padded.set(rowOf(queries, 7), place * WIDTH);
        const product = engine().linear(engine().upload(padded, [rows, WIDTH]), bankRows);
        return engine()
          .download(product)
          .slice(place * 1024, (place + 1) * 1024);
      });
    });
    assert.deepEqual(first, last);
  });

  it("let a stop through between two products", () => {
    const stop = (): never => {
      throw new FleetError("GENERATION_ABORTED", "stopped");
    };
    const options = { width: WIDTH, neighbours: 20, beforeBlock: stop };
    assert.throws(
      () =>
        engine().scope(() => {
          const nearest = new NearestNeighbours(engine(), queries, options);
          for (const [row, label] of bank.labels.entries()) nearest.add(rowOf(bank, row), label);
        }),
      { code: "GENERATION_ABORTED" },
    );
  });
});
