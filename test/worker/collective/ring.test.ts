import assert from "node:assert/strict";
import fc from "fast-check";
import {
  planAllReduce,
  planBroadcast,
  planReduceScatter,
  type RingPlan,
} from "../../../worker/collective/ring.ts";
import { Prng } from "../../support/prng.ts";

/**
 * Carries the ranks' plans out, one move at a time, in an order drawn from `prng`: a send may
 * happen when its receives have, a receive when the predecessor has sent.
 */
function carryOut(plans: readonly RingPlan[], buffers: readonly Float32Array[], prng: Prng): void {
  const worldSize = plans.length;
  const wires: Float32Array[][] = plans.map(() => []);
  const sent = plans.map(() => 0);
  const received = plans.map(() => 0);

  const trySend = (rank: number) => {
    const move = plans[rank]!.sends[sent[rank]!];
    if (move === undefined || received[rank]! < move.after) return false;
    wires[(rank + 1) % worldSize]!.push(buffers[rank]!.slice(move.begin, move.end));
    sent[rank]!++;
    return true;
  };
  const tryReceive = (rank: number) => {
    const move = plans[rank]!.receives[received[rank]!];
    const data = wires[rank]![0];
    if (move === undefined || data === undefined) return false;
    assert.equal(data.length, move.end - move.begin);
    const target = buffers[rank]!.subarray(move.begin, move.end);
    for (let i = 0; i < data.length; i++) {
      target[i] = move.action === "store" ? data[i]! : target[i]! + data[i]!;
    }
    wires[rank]!.shift();
    received[rank]!++;
    return true;
  };

  const moves = [...plans.keys()].flatMap((rank) => [() => trySend(rank), () => tryReceive(rank)]);
  for (let isMoving = true; isMoving; ) {
    const begin = prng.int(0, moves.length - 1);
    isMoving = moves.some((_, i) => moves[(begin + i) % moves.length]!());
  }
  for (const [rank, plan] of plans.entries()) {
    assert.equal(sent[rank], plan.sends.length, `rank ${rank} sent all`);
    assert.equal(received[rank], plan.receives.length, `rank ${rank} received all`);
  }
}

const cases = fc.record({
  worldSize: fc.integer({ min: 1, max: 9 }),
  length: fc.integer({ min: 0, max: 60 }),
  chunkFloats: fc.integer({ min: 1, max: 20 }),
  seed: fc.nat(),
});

describe("the ring", () => {
  it("leaves the same sum on all ranks, for any size and any timing", () => {
    fc.assert(
      fc.property(cases, ({ worldSize, length, chunkFloats, seed }) => {
        const prng = new Prng(seed);
        const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
        const inputs = ranks.map(() => Float32Array.from({ length }, () => prng.next() - 0.5));
        const buffers = inputs.map((input) => input.slice());
        const plans = ranks.map((rank) =>
          planAllReduce({ rank, worldSize }, { length, chunkFloats }),
        );
        carryOut(plans, buffers, prng);
        for (let i = 0; i < length; i++) {
          const sum = inputs.reduce((total, input) => total + input[i]!, 0);
          assert.ok(Math.abs(buffers[0]![i]! - sum) < 1e-6 * worldSize);
        }
        for (const buffer of buffers) assert.deepEqual(buffer, buffers[0]);
      }),
    );
  });

  it("sends each rank no more than its share: 2 (W - 1) / W of the buffer", () => {
    const { sends } = planAllReduce({ rank: 1, worldSize: 4 }, { length: 4000, chunkFloats: 64 });
    const floats = sends.reduce((total, { begin, end }) => total + end - begin, 0);
    assert.equal(floats, 6000);
  });

  it("leaves to each rank the sum of its own slice, in the same order at any timing", () => {
    fc.assert(
      fc.property(cases, ({ worldSize, length: part, chunkFloats, seed }) => {
        const prng = new Prng(seed);
        const length = part * worldSize;
        const ranks = Array.from({ length: worldSize }, (_, rank) => rank);
        const inputs = ranks.map(() => Float32Array.from({ length }, () => prng.next() - 0.5));
        const buffers = inputs.map((input) => input.slice());
        const plans = ranks.map((rank) =>
          planReduceScatter({ rank, worldSize }, { length, chunkFloats }),
        );
        carryOut(plans, buffers, prng);
        for (const rank of ranks) {
          const begin = rank * part;
          const sum = new Float32Array(part);
          for (let k = 1; k <= worldSize; k++) {
            const addend = inputs[(rank + k) % worldSize]!;
            for (let i = 0; i < part; i++) sum[i]! += addend[begin + i]!;
          }
          assert.deepEqual(buffers[rank]!.subarray(begin, begin + part), sum);
        }
      }),
    );
  });

  it("sends half as much for a reduce-scatter: (W - 1) / W of the buffer", () => {
    const place = { rank: 1, worldSize: 4 };
    const { sends } = planReduceScatter(place, { length: 4000, chunkFloats: 64 });
    const floats = sends.reduce((total, { begin, end }) => total + end - begin, 0);
    assert.equal(floats, 3000);
  });

  it("carries the root's buffer to all ranks", () => {
    fc.assert(
      fc.property(cases, fc.nat(), ({ worldSize, length, chunkFloats, seed }, pick) => {
        const root = pick % worldSize;
        const buffers = Array.from({ length: worldSize }, (_, rank) =>
          Float32Array.from({ length }, (_x, i) => 100 * rank + i),
        );
        const expected = buffers[root]!.slice();
        const plans = [...buffers.keys()].map((rank) =>
          planBroadcast({ rank, worldSize }, { length, chunkFloats, root }),
        );
        carryOut(plans, buffers, new Prng(seed));
        for (const buffer of buffers) assert.deepEqual(buffer, expected);
      }),
    );
  });
});
