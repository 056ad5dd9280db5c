import assert from "node:assert/strict";
import { runLockStep } from "../../../worker/golden/lock-step-group.ts";
import { gangMoments, meanMoments, type NormMoments } from "../../../worker/model/norm-moments.ts";

/** Two norms, of two channels and of one. */
function momentsOf(k: number): NormMoments {
  return new Map([
    ["a", { mean: Float32Array.of(k, 2 * k), variance: Float32Array.of(k ** 2, 1), count: 12 }],
    ["b", { mean: Float32Array.of(-k), variance: Float32Array.of(4 * k), count: 3 }],
  ]);
}

/** Of the numbers 1, 2, 3, 6, whose mean is 3 and whose mean square is 12.5. */
const MEAN: NormMoments = new Map([
  ["a", { mean: Float32Array.of(3, 6), variance: Float32Array.of(12.5, 1), count: 12 }],
  ["b", { mean: Float32Array.of(-3), variance: Float32Array.of(12), count: 3 }],
]);

describe("the batch statistics of a step", () => {
  const all = [1, 2, 3, 6];

  it("are the mean over batches", () => {
    assert.deepEqual(meanMoments(all.map(momentsOf)), MEAN);
  });

  it("are those of a single batch as they are", () => {
    const only = momentsOf(0.1);
    assert.equal(meanMoments([only]), only);
  });

  for (const workers of [1, 2, 4]) {
    it(`are the same however many workers hold the batches: ${workers}`, () => {
      const own = (rank: number): NormMoments[] => {
        const length = all.length / workers;
        return all.slice(rank * length, (rank + 1) * length).map(momentsOf);
      };
      const results = runLockStep(workers, (group) =>
        gangMoments(group, meanMoments(own(group.rank))),
      );
      assert.deepEqual(results, Array(workers).fill(MEAN));
    });
  }
});
