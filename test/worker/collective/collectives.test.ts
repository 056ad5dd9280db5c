import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { PeerGroup } from "../../../worker/collective/peer-group.ts";
import { type SharedFloats, sharedFloats } from "../../../worker/collective/process-group.ts";
import { Prng } from "../../support/prng.ts";
import { formGang, type Gang } from "./gang.ts";

/** Different on every rank, and not exactly summable in every order. */
function addend(rank: number, length: number, salt = 0): SharedFloats {
  const prng = new Prng(1000 * salt + rank);
  const values = sharedFloats(length);
  for (const i of values.keys()) values[i] = prng.next() - 0.5;
  return values;
}

function sumOverRanks(worldSize: number, length: number, salt = 0): Float64Array {
  const sum = new Float64Array(length);
  for (let rank = 0; rank < worldSize; rank++) {
    const values = addend(rank, length, salt);
    for (let i = 0; i < length; i++) sum[i]! += values[i]!;
  }
  return sum;
}

function hash(floats: Float32Array): string {
  return createHash("sha256")
    .update(new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength))
    .digest("hex");
}

async function reduceOnAll(gang: Gang, length: number): Promise<Float32Array[]> {
  return gang.each(async (group) => {
    const buffer = addend(group.rank, length);
    await group.allReduce(buffer);
    return buffer;
  });
}

/** The results are the same bits everywhere, and the sum to within `tolerance` of each element. */
function assertSums(results: readonly Float32Array[], expected: Float64Array, tolerance: number) {
  assert.deepEqual(new Set(results.map(hash)).size, 1, "bit-identical on all ranks");
  for (const [i, value] of expected.entries()) {
    const error = Math.abs(results[0]![i]! - value);
    assert.ok(error <= tolerance, `element ${i} is off by ${error}`);
  }
}

describe("a gang", function () {
  this.timeout(60_000);

  for (const worldSize of [1, 2, 3, 4, 16]) {
    describe(`of ${worldSize}`, () => {
      let gang: Gang;
      before(async () => {
        gang = await formGang(worldSize);
      });
      after(() => gang.close());

      // Empty, shorter than the gang, odd, through the small lane, and through the ring.
      for (const length of [0, 1, 5, 8191, 8193, 300_001]) {
        it(`sums ${length} floats to the same bits on every rank`, async () => {
          const results = await reduceOnAll(gang, length);
          assertSums(results, sumOverRanks(worldSize, length), 1e-6 * worldSize);
        });
      }

      for (const part of [0, 1, 3000, 100_003]) {
        it(`leaves to each rank the sum of its own ${part} floats`, async () => {
          const length = part * worldSize;
          const scatter = () =>
            gang.each(async (group) => {
              const buffer = addend(group.rank, length);
              await group.reduceScatter(buffer);
              return buffer.subarray(group.rank * part, (group.rank + 1) * part);
            });
          const results = await scatter();
          const expected = sumOverRanks(worldSize, length);
          for (const [rank, own] of results.entries()) {
            assertSums([own], expected.subarray(rank * part, (rank + 1) * part), 1e-6 * worldSize);
          }
          assert.deepEqual((await scatter()).map(hash), results.map(hash), "always in one order");
        });
      }

      it("gathers parts in rank order, small ones and such as take several frames", async () => {
        for (const length of [0, 1, 256, 70_000]) {
          const results = await gang.each((group) => group.allGather(addend(group.rank, length)));
          const parts = Array.from({ length: worldSize }, (_, rank) => [...addend(rank, length)]);
          const expected = hash(Float32Array.from(parts.flat()));
          for (const all of results) assert.equal(hash(all), expected);
        }
      });

      it("broadcasts from any rank, bit for bit", async () => {
        for (const root of new Set([0, 1 % worldSize, worldSize - 1])) {
          const results = await gang.each(async (group) => {
            const buffer = addend(group.rank, 100_003);
            await group.broadcast(buffer, root);
            return buffer;
          });
          const expected = hash(addend(root, 100_003));
          for (const buffer of results) assert.equal(hash(buffer), expected);
        }
      });
    });
  }

  it("sums to the same bits over shared memory and over rings of any kind", async () => {
    for (const wire of ["f32", "bf16"] as const) {
      for (const length of [5, 8192, 8193, 100_003, 300_001, 2_000_003]) {
        const hashes = new Set<string>();
        for (const sharedMemory of [true, false]) {
          const gang = await formGang(3, { wire, sharedMemory });
          for (const isAllocated of [true, false]) {
            const results = await gang.each(async (group) => {
              const values = addend(group.rank, length);
              const buffer = isAllocated ? await group.allocate(length) : sharedFloats(length);
              buffer.set(values);
              await group.allReduce(buffer);
              return buffer;
            });
            for (const result of results) hashes.add(hash(result));
          }
          await gang.close();
        }
        assert.equal(hashes.size, 1, `${length} floats in ${wire}`);
      }
    }
  });

  it("leaves to each rank the same bits of its part, wherever it lies", async () => {
    const gang = await formGang(4);
    const results = await gang.each(async (group) => {
      const hashes: string[] = [];
      for (const buffer of [sharedFloats(400_000), await group.allocate(400_000)]) {
        buffer.set(addend(group.rank, 400_000));
        await group.reduceScatter(buffer);
        hashes.push(hash(buffer.subarray(group.rank * 100_000, (group.rank + 1) * 100_000)));
      }
      return hashes;
    });
    for (const [ring, shared] of results) assert.equal(ring, shared);
    await gang.close();
  });

  it("keeps parts of one allocation apart, several under way at once", async () => {
    const gang = await formGang(3);
    await gang.each(async (group) => {
      const all = await group.allocate(900_000);
      for (let round = 0; round < 5; round++) {
        all.fill(group.rank + round);
        const parts = [all.subarray(0, 20_000), all.subarray(20_000, 500_001)];
        await Promise.all([...parts, all.subarray(500_001)].map((part) => group.allReduce(part)));
        assert.ok(all.every((value) => value === 3 + 3 * round));
      }
    });
    await gang.close();
  });

  it("ends where ranks sum different parts of an allocation", async () => {
    const gang = await formGang(2);
    const sums = await gang.each(async (group) => {
      const all = await group.allocate(200_001);
      return group.allReduce(all.subarray(group.rank, 200_000 + group.rank)).catch(String);
    });
    for (const error of sums) assert.match(String(error), /MISMATCHED frame: rank \d shares/);
    await gang.close();
  });

  it("keeps 200 rounds of mixed operations apart, several under way at once", async () => {
    const gang = await formGang(3);
    await gang.each(async (group) => {
      const prng = new Prng(7);
      const underWay: Promise<void>[] = [];
      for (let round = 0; round < 200; round++) underWay.push(...(await mixedRound(group, prng)));
      await Promise.all(underWay);
    });
    await gang.close();
  });

  it("sums in f32 what travels in bfloat16, to the same bits on every rank", async () => {
    const worldSize = 4;
    const gang = await formGang(worldSize, { wire: "bf16" });
    const results = await reduceOnAll(gang, 200_003);
    // Each of the 4 hops rounds a value of magnitude below 2 to 8 bits.
    assertSums(results, sumOverRanks(worldSize, 200_003), worldSize * 2 ** -8);
    const bits = new Uint32Array(results[0]!.buffer);
    assert.ok(
      bits.every((word) => (word & 0xffff) === 0),
      "holds what the wire can carry",
    );
    await gang.close();
  });

  it("rounds only what travels of a reduce-scatter in bfloat16, not its sums", async () => {
    const gang = await formGang(2, { wire: "bf16" });
    const fine = 1 + 2 ** -20;
    await gang.each(async (group) => {
      const buffer = sharedFloats(20_000).fill(fine);
      await group.reduceScatter(buffer);
      const own = buffer.subarray(10_000 * group.rank, 10_000 * (group.rank + 1));
      const expected = Math.fround(fine + 1);
      assert.ok(own.every((x) => x === expected));
    });
    await gang.close();
  });

  it("does not hold small gathers up behind a large sum", async () => {
    const gang = await formGang(2);
    const order: string[] = [];
    await gang.each(async (group) => {
      const sum = group.allReduce(sharedFloats(8_000_000)).then(() => order.push("sum"));
      await group.allGather(Float32Array.of(group.rank));
      order.push("gather");
      await sum;
    });
    assert.deepEqual(order.slice(0, 2), ["gather", "gather"]);
    await gang.close();
  });

  it("counts what it has reduced", async () => {
    const gang = await formGang(2);
    await reduceOnAll(gang, 10);
    await reduceOnAll(gang, 10_000);
    const { allReduces, allReduceBytes, allReduceSeconds } = gang.groups[1]!.stats();
    assert.deepEqual({ allReduces, allReduceBytes }, { allReduces: 2, allReduceBytes: 40_040 });
    assert.ok(allReduceSeconds > 0);
    await gang.close();
  });
});

/** One drawn operation; all ranks draw the same. Returns what it leaves under way. */
async function mixedRound(group: PeerGroup, prng: Prng): Promise<Promise<void>[]> {
  const { rank, worldSize } = group;
  const kind = prng.int(0, 4);
  const length = prng.int(0, 1) === 0 ? prng.int(0, 100) : prng.int(8_000, 90_000);
  const salt = prng.int(0, 99);
  if (kind === 0) {
    await group.barrier();
  } else if (kind === 1) {
    const all = await group.allGather(new Float32Array(length).fill(salt + rank));
    for (let r = 0; r < worldSize; r++) {
      const part = all.subarray(r * length, (r + 1) * length);
      assert.ok(part.every((x) => x === salt + r));
    }
  } else if (kind === 2) {
    const buffer = sharedFloats(length).fill(rank);
    await group.broadcast(buffer, salt % worldSize);
    assert.ok(buffer.every((x) => x === salt % worldSize));
  } else {
    const isScatter = kind === 4;
    const buffer = sharedFloats(isScatter ? length * worldSize : length).fill(salt + rank);
    const result = isScatter ? buffer.subarray(rank * length, (rank + 1) * length) : buffer;
    const expected = salt * worldSize + (worldSize * (worldSize - 1)) / 2;
    const check = () => assert.ok(result.every((x) => x === expected));
    const sum = isScatter ? group.reduceScatter(buffer) : group.allReduce(buffer);
    return [sum.then(check)];
  }
  return [];
}
