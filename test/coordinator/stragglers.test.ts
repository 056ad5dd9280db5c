import assert from "node:assert/strict";
import { hearTimes, type RankStates } from "../../coordinator/gang/stragglers.ts";

/** Four ranks that take 0.4 s each, of which they wait 0.1 s for data. */
const even = Array.from({ length: 4 }, (_, rank) => rank).reduce<RankStates>(
  (ranks, rank) => hear(ranks, rank, 0.4),
  new Map(),
);

function hear(ranks: RankStates, rank: number, own: number, data = 0.1): RankStates {
  return hearTimes(ranks, { rank, times: { ownStepSeconds: own, dataSeconds: data }, factor: 2 });
}

/** The same report `count` times. */
function repeat(ranks: RankStates, count: number, ...report: [number, number, number?]) {
  return Array.from({ length: count }).reduce<RankStates>((all) => hear(all, ...report), ranks);
}

const named = (ranks: RankStates): readonly number[] =>
  [...ranks].flatMap(([rank, { straggler }]) => (straggler ? [rank] : []));

describe("straggler", () => {
  it("is a rank that takes too long three times in a row", () => {
    assert.deepEqual(named(even), []);
    assert.deepEqual(named(repeat(even, 2, 3, 1)), []);
    assert.deepEqual(repeat(even, 3, 3, 1).get(3)?.straggler, {
      rank: 3,
      ratio: 2.5,
      phase: "compute",
    });
  });

  it("is not one that is slow now and then", () => {
    const flapping = [1, 1, 0.4, 1, 1, 0.4].reduce((ranks, own) => hear(ranks, 3, own), even);
    assert.deepEqual(named(flapping), []);
  });

  it("waits for data when most of the difference goes to that", () => {
    assert.equal(repeat(even, 3, 3, 1, 0.6).get(3)?.straggler?.phase, "data");
    assert.equal(repeat(even, 3, 3, 1, 0.3).get(3)?.straggler?.phase, "compute");
  });

  it("is one until it was well below the factor three times in a row", () => {
    const slow = repeat(even, 3, 3, 1);
    assert.deepEqual(named(repeat(slow, 9, 3, 0.75)), [3]);
    assert.deepEqual(named(repeat(slow, 2, 3, 0.5)), [3]);
    assert.deepEqual(named(repeat(slow, 3, 3, 0.5)), []);
  });

  it("makes none of the others fast", () => {
    const slow = repeat(even, 3, 3, 40);
    assert.deepEqual(named(repeat(slow, 3, 0, 0.5)), [3]);
  });

  it("is found among two ranks, but not alone", () => {
    const one: RankStates = hear(new Map(), 0, 0.4);
    assert.deepEqual(named(repeat(one, 9, 0, 9)), []);
    assert.deepEqual(named(repeat(one, 3, 1, 1)), [1]);
  });

  it("is nobody when steps take no time", () => {
    const idle = hear(hear(new Map(), 0, 0, 0), 1, 0, 0);
    assert.deepEqual(named(repeat(idle, 9, 1, 5)), []);
  });
});
