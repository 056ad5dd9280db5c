import assert from "node:assert/strict";
import type { ProcessGroup, SharedFloats } from "../../../worker/collective/process-group.ts";
import { soloGroup } from "../../../worker/collective/process-group.ts";
import { GradientBuckets } from "../../../worker/train/gradient-buckets.ts";
import { ReferenceEngine } from "../../support/reference-engine.ts";

describe("GradientBuckets", () => {
  const engine = new ReferenceEngine();
  const sizes = [3, 2, 4, 1];
  const give = (buckets: GradientBuckets, parameter: number): void => {
    const data = new Float32Array(sizes[parameter]!).fill(parameter + 1);
    engine.scope(() => buckets.add(parameter, engine.upload(data, [data.length])));
  };

  const open = (
    group: ProcessGroup,
    bucketBytes: number,
    { check = () => {}, microBatches = 1 } = {},
  ): GradientBuckets =>
    new GradientBuckets(engine, group, sizes, { bucketBytes, microBatches, check });

  /** Two ranks that hold the same: every sum is twice the own value. */
  function twinGroup(): ProcessGroup & { readonly reduced: SharedFloats[] } {
    const reduced: SharedFloats[] = [];
    const allReduce = (buffer: SharedFloats) => {
      reduced.push(buffer);
      return { wait: () => buffer.set(buffer.map((value) => 2 * value)) };
    };
    return { ...soloGroup, worldSize: 2, allReduce, reduced };
  }

  it("starts a bucket's all-reduce when its last gradient arrives, in whatever order", () => {
    const group = twinGroup();
    const buckets = open(group, 5 * 4);
    give(buckets, 2);
    assert.equal(group.reduced.length, 0);
    give(buckets, 3);
    assert.equal(group.reduced.length, 1, "parameters 3 and 2 fill the first bucket");
    give(buckets, 1);
    give(buckets, 0);
    assert.deepEqual(
      group.reduced.map((floats) => floats.length),
      [5, 5],
    );
  });

  it("holds the sums after finish, step after step", () => {
    const buckets = open(twinGroup(), 1);
    for (let step = 0; step < 2; step++) {
      for (const parameter of [3, 2, 1, 0]) give(buckets, parameter);
      buckets.finish();
      for (const [parameter, size] of sizes.entries()) {
        const expected = new Float32Array(size).fill(2 * (parameter + 1));
        assert.deepEqual(Float32Array.from(buckets.gradient(parameter)), expected);
      }
    }
  });

  it("adds the gradients of micro-batches up, and starts a bucket with its last one", () => {
    const group = twinGroup();
    const buckets = open(group, 5 * 4, { microBatches: 3 });
    for (let step = 0; step < 2; step++) {
      group.reduced.length = 0;
      for (let microBatch = 0; microBatch < 3; microBatch++) {
        for (const parameter of [3, 2, 1, 0]) {
          give(buckets, parameter);
          const isLast = microBatch === 2;
          assert.equal(group.reduced.length, isLast ? Math.floor((4 - parameter) / 2) : 0);
        }
      }
      buckets.finish();
      for (const [parameter, size] of sizes.entries()) {
        const expected = new Float32Array(size).fill(2 * 3 * (parameter + 1));
        assert.deepEqual(Float32Array.from(buckets.gradient(parameter)), expected);
      }
    }
  });

  it("refuses a second gradient and a missing one", () => {
    const buckets = open(soloGroup, 1);
    give(buckets, 3);
    assert.throws(() => give(buckets, 3), /parameter 3 has gradient 2 of 1/);
    assert.throws(() => buckets.finish(), /without gradient/);
  });
});
