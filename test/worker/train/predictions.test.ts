import assert from "node:assert/strict";
import { type ProcessGroup, soloGroup } from "../../../worker/collective/process-group.ts";
import { countHits } from "../../../worker/train/hits.ts";
import { countPredictions, sumPredictions } from "../../../worker/train/predictions.ts";
import { Prng } from "../../support/prng.ts";

describe("predictions of a classifier", () => {
  const count = (logits: number[][], labels: number[]): number[] => {
    const classes = logits[0]!.length;
    const counts = new Int32Array(classes ** 2);
    countPredictions(Float32Array.from(logits.flat()), Int32Array.from(labels), classes, counts);
    return [...counts];
  };

  it("are counted by true class and by that of the largest logit", () => {
    const logits = [
      [1, 0],
      [0, 1],
      [2, 3],
    ];
    assert.deepEqual(count(logits, [0, 0, 1]), [1, 1, 0, 1]);
  });

  it("leave out images that could not be read, and those with nothing but NaN", () => {
    const nan = [Number.NaN, Number.NaN];
    assert.deepEqual(count([[1, 0], nan], [-1, 0]), [0, 0, 0, 0]);
    assert.deepEqual(count([[Number.NaN, 1]], [0]), [0, 1, 0, 0]);
  });

  it("are right exactly as often as top-1 says, also with ties", () => {
    const random = new Prng(3);
    const [images, classes] = [200, 5];
    const logits = Float32Array.from({ length: images * classes }, () => random.int(0, 3));
    const labels = Int32Array.from({ length: images }, () => random.int(0, classes - 1));
    const hits = { images: 0, top1: 0, top5: 0 };
    countHits(logits, labels, classes, hits);
    const counts = new Int32Array(classes ** 2);
    countPredictions(logits, labels, classes, counts);
    const right = Array.from({ length: classes }, (_, k) => counts[k * (classes + 1)]!);
    assert.equal(
      right.reduce((sum, n) => sum + n, 0),
      hits.top1,
    );
    assert.equal(
      counts.reduce((sum, n) => sum + n, 0),
      images,
    );
  });

  it("are added up over the ranks, however many classes there are", () => {
    const own = Int32Array.from({ length: 300 ** 2 }, (_, i) => i);
    assert.deepEqual(sumPredictions(soloGroup, own), own);
    const twins: ProcessGroup = {
      ...soloGroup,
      worldSize: 2,
      allGather: (own) =>
        Float32Array.from({ length: 2 * own.length }, (_, i) => own[i % own.length]!),
    };
    assert.deepEqual(
      sumPredictions(twins, own),
      own.map((value) => 2 * value),
    );
  });
});
