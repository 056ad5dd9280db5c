import assert from "node:assert/strict";
import fc from "fast-check";
import { Arena, type Block } from "../../../../worker/engine/onednn/arena.ts";

const MEBIBYTE = 2 ** 20;

describe("Arena", () => {
  it("gives the second step the memory of the first", () => {
    const arena = new Arena();
    const step = (): number[] => {
      const [x, y, z] = [1000, 40 * MEBIBYTE, 7].map((bytes) => arena.take(bytes));
      arena.release(y!);
      const w = arena.take(30 * MEBIBYTE);
      for (const block of [x, z, w]) arena.release(block!);
      return [x, y, z, w].map((block) => block!.address);
    };
    assert.deepEqual(step(), step());
    assert.equal(arena.used, 0);
  });

  it("joins free neighbours, so that one large block fits where small ones were", () => {
    const arena = new Arena();
    const blocks = Array.from({ length: 8 }, () => arena.take(32 * MEBIBYTE));
    const first = Math.min(...blocks.map(({ address }) => address));
    for (const k of [3, 1, 5, 7, 0, 6, 2, 4]) arena.release(blocks[k]!);
    assert.equal(arena.take(256 * MEBIBYTE).address, first);
  });

  it("keeps a block until its last owner lets go", () => {
    const arena = new Arena();
    const block = arena.take(64);
    arena.share(block);
    arena.release(block);
    assert.notEqual(arena.take(64).address, block.address);
    arena.release(block);
    assert.equal(arena.take(64).address, block.address);
    assert.throws(() => {
      arena.release(block);
      arena.release(block);
    }, /freed once/);
  });

  it("serves a block that is larger than its chunks", () => {
    const arena = new Arena();
    const block = arena.take(300 * MEBIBYTE);
    block.floats()[block.bytes / 4 - 1] = 5;
    assert.equal(block.floats().at(-1), 5);
    arena.release(block);
  });

  it("never lets two blocks overlap, and aligns them to cache lines", () => {
    const requests = fc.array(
      fc.record({ bytes: fc.integer({ min: 1, max: 5000 }), releases: fc.nat({ max: 20 }) }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(requests, (steps) => {
        const arena = new Arena();
        const held: Block[] = [];
        for (const { bytes, releases } of steps) {
          held.push(arena.take(bytes));
          const victim = held[releases];
          if (victim) {
            held.splice(releases, 1);
            arena.release(victim);
          }
          const sorted = held.toSorted((a, b) => a.address - b.address);
          for (const [k, block] of sorted.entries()) {
            assert.equal(block.address % 64, 0);
            const next = sorted[k + 1];
            assert.ok(!next || block.address + block.bytes <= next.address);
          }
        }
        const total = held.reduce((sum, block) => sum + block.bytes, 0);
        assert.equal(arena.used, total);
      }),
    );
  });
});
