import assert from "node:assert/strict";
import fc from "fast-check";
import { boundsProblem, worldSizes } from "../../proto/world-sizes.ts";

describe("world sizes", () => {
  it("are all of the ranks, unless fewer workers are allowed", () => {
    assert.deepEqual(worldSizes(12, {}), [12]);
    assert.deepEqual(worldSizes(12, { minWorkers: 1 }), [12, 6, 4, 3, 2, 1]);
    assert.deepEqual(worldSizes(12, { minWorkers: 3, maxWorkers: 8 }), [6, 4, 3]);
  });

  it("are the largest that is allowed when only the most is said", () => {
    assert.deepEqual(worldSizes(12, { maxWorkers: 5 }), [4]);
    assert.deepEqual(worldSizes(7, { maxWorkers: 6 }), [1]);
  });

  it("take a bound above the ranks for all of them", () => {
    assert.deepEqual(worldSizes(2, { minWorkers: 4, maxWorkers: 8 }), [2]);
    assert.deepEqual(worldSizes(2, { minWorkers: 1, maxWorkers: 8 }), [2, 1]);
  });

  it("say what to choose when there is none", () => {
    const bounds = { minWorkers: 3, maxWorkers: 3 };
    assert.deepEqual(worldSizes(4, bounds), []);
    assert.equal(
      boundsProblem("pretrain", 4, bounds),
      "3 workers cannot share the 4 ranks of pretrain evenly: choose 1, 2, 4",
    );
    assert.match(boundsProblem("x", 16, { minWorkers: 5, maxWorkers: 7 }) ?? "", /^5 to 7 workers/);
    assert.equal(boundsProblem("pretrain", 4, { minWorkers: 3 }), undefined);
  });

  it("divide the ranks, from the largest down, within the bounds", () => {
    const number = fc.integer({ min: 1, max: 40 });
    const bound = fc.option(number, { nil: undefined });
    fc.assert(
      fc.property(number, bound, bound, (ranks, minWorkers, maxWorkers) => {
        const sizes = worldSizes(ranks, { minWorkers, maxWorkers });
        assert.ok(sizes.every((size) => ranks % size === 0 && size <= (maxWorkers ?? ranks)));
        assert.ok(sizes.every((size) => size >= Math.min(minWorkers ?? 1, ranks)));
        assert.deepEqual(
          sizes,
          sizes.toSorted((a, b) => b - a),
        );
      }),
    );
  });
});
