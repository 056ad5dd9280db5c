import assert from "node:assert/strict";
import {
  batchSizeAt,
  epochIndices,
  randomPermutation,
  shardIndices,
  stepsPerEpoch,
} from "../../../worker/data/sampler.ts";

/** `torch.randperm(count, generator=torch.Generator().manual_seed(seed))`, torch 2.13 on CPU. */
const TORCH = [
  { count: 1, seed: 0, head: [0] },
  { count: 2, seed: 3, head: [0, 1] },
  { count: 10, seed: 0, head: [4, 1, 7, 5, 3, 9, 0, 8, 6, 2] },
  { count: 10, seed: 1, head: [5, 6, 1, 2, 0, 8, 9, 3, 7, 4] },
  {
    count: 17,
    seed: 42,
    head: [13, 4, 3, 15, 8, 16, 9, 11, 12, 10, 6, 2, 1, 7, 14, 0, 5],
  },
  // The widest seed, and one past it: the generator keeps the low 32 bits.
  { count: 100, seed: 4294967295, head: [71, 67, 18, 74, 88, 15, 72, 25, 61, 97, 47, 32] },
  { count: 100, seed: 4294967296, head: [44, 19, 93, 90, 71, 69, 37, 95, 53, 91, 81, 42] },
  // More draws than the generator's state holds.
  { count: 1000, seed: 7, head: [615, 284, 599, 580, 347, 92, 383, 891, 452, 41, 998, 773] },
  // As many as ImageNet has.
  {
    count: 1_300_000,
    seed: 11,
    head: [752441, 875905, 445650, 158618, 514557, 423457, 81877, 376447],
  },
] as const;

describe("random permutation", () => {
  for (const { count, seed, head } of TORCH) {
    it(`equals torch.randperm for ${count} images and seed ${seed}`, () => {
      const order = randomPermutation(count, seed);
      assert.deepEqual([...order.slice(0, head.length)], [...head]);
      assert.equal(new Set(order).size, count);
    });
  }
});

describe("sampler", () => {
  const shared = { count: 10, seed: 5, epoch: 3, ranks: 1, batchPerWorker: 2 };
  const share = (rank: number, worldSize: number): number[] => [
    ...epochIndices({ ...shared, rank, worldSize }),
  ];

  it("takes another order each epoch, from seed + epoch", () => {
    assert.deepEqual(share(0, 1), [...randomPermutation(10, 8)]);
    assert.notDeepEqual(
      [...epochIndices({ ...shared, epoch: 4, rank: 0, worldSize: 1 })],
      share(0, 1),
    );
  });

  it("deals the order out to the ranks, padded with its beginning", () => {
    const order = share(0, 1);
    const [a, b, c, d, e, f, g, h, i, j] = order;
    assert.deepEqual(share(0, 4), [a, e, i]);
    assert.deepEqual(share(1, 4), [b, f, j]);
    assert.deepEqual(share(2, 4), [c, g, a]);
    assert.deepEqual(share(3, 4), [d, h, b]);
  });

  it("wraps more than once when there are more ranks than images", () => {
    const shares = Array.from({ length: 5 }, (_, rank) => [
      ...epochIndices({ ...shared, count: 2, seed: 0, epoch: 0, rank, worldSize: 5 }),
    ]);
    const order = [...randomPermutation(2, 0)];
    assert.deepEqual(shares.flat(), [...order, ...order, order[0]]);
  });

  it("puts the same images into a global step for any number of workers", () => {
    const count = 48;
    const stepSets = (worldSize: number, batch: number): string[] => {
      const shares = Array.from({ length: worldSize }, (_, rank) =>
        epochIndices({ ...shared, count, seed: 1, epoch: 0, rank, worldSize }),
      );
      return Array.from({ length: count / (worldSize * batch) }, (_, step) =>
        shares
          .flatMap((indices) => [...indices.slice(step * batch, (step + 1) * batch)])
          .sort((a, b) => a - b)
          .join(),
      );
    };
    assert.deepEqual(stepSets(4, 2), stepSets(1, 8));
    assert.deepEqual(stepSets(8, 1), stepSets(1, 8));
  });

  it("gives a worker with several ranks their batches, rank after rank, step after step", () => {
    const [first, second] = [share(2, 4), share(3, 4)];
    assert.deepEqual(
      [...epochIndices({ ...shared, rank: 2, ranks: 2, worldSize: 4 })],
      [first.slice(0, 2), second.slice(0, 2), first.slice(2), second.slice(2)].flat(),
    );
  });

  it("keeps the last, smaller batch unless told to drop it", () => {
    // 1,281,167 images over 16 x 256: 313 steps, the last with 201 images per worker.
    const split = { count: 1_281_167, worldSize: 16, batchPerWorker: 256, dropLast: false };
    assert.equal(stepsPerEpoch(split), 313);
    assert.equal(batchSizeAt(split, 0), 256);
    assert.equal(batchSizeAt(split, 312), 201);
    assert.equal(stepsPerEpoch({ ...split, dropLast: true }), 312);
  });

  it("shares a validation set out without repeating an image", () => {
    const shares = [0, 1, 2, 3].map((rank) => [...shardIndices(10, rank, 4)]);
    assert.deepEqual(shares, [
      [0, 4, 8],
      [1, 5, 9],
      [2, 6],
      [3, 7],
    ]);
    assert.deepEqual([...shardIndices(2, 3, 4)], []);
  });
});
