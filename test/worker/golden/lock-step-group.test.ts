import assert from "node:assert/strict";
import { runLockStep } from "../../../worker/golden/lock-step-group.ts";

describe("lock-step gang", () => {
  it("gathers in rank order, as often as its ranks ask", () => {
    const results = runLockStep(3, (group) => {
      const first = group.allGather(Float32Array.of(group.rank, 10));
      const sum = first.reduce((a, b) => a + b);
      return [...group.allGather(Float32Array.of(sum + group.rank))];
    });
    assert.deepEqual(results, Array(3).fill([33, 34, 35]));
  });

  it("gives every rank its own copy", () => {
    const results = runLockStep(2, (group) => {
      const all = group.allGather(Float32Array.of(1));
      all[0]! += group.rank + 1;
      return all[0];
    });
    assert.deepEqual(results, [2, 3]);
  });

  it("refuses ranks that gather unlike numbers", () => {
    assert.throws(
      () => runLockStep(2, (group) => group.allGather(new Float32Array(group.rank + 1))),
      /contributes as many numbers/,
    );
  });

  it("refuses ranks of which one gathers and one does not", () => {
    assert.throws(
      () =>
        runLockStep(2, (group) => {
          if (group.rank === 0) group.allGather(Float32Array.of(1));
        }),
      /makes the same collectives/,
    );
  });

  it("passes on what a rank throws", () => {
    const fail = () => {
      throw new RangeError("broken");
    };
    assert.throws(() => runLockStep(2, fail), RangeError);
  });
});
