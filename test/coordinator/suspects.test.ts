import assert from "node:assert/strict";
import { suspectsOf, suspicionAfter } from "../../coordinator/gang/suspects.ts";

const GANG = ["w0", "w1", "w2", "w3"];
const suspects = (said: Readonly<Record<string, readonly number[]>>, gang = GANG) =>
  suspectsOf(gang, new Map(Object.entries(said)));

describe("suspects", () => {
  it("are those whom more than half of the others have lost", () => {
    assert.deepEqual(suspects({ w0: [2], w1: [2], w2: [0, 1, 3], w3: [2] }), ["w2"]);
    assert.deepEqual(suspects({ w0: [2], w1: [2] }), ["w2"]);
  });

  it("are not those whom fewer have lost, nor those who have lost the others", () => {
    assert.deepEqual(suspects({ w0: [2], w2: [0, 1, 3] }), []);
    assert.deepEqual(suspects({ w1: [1], w2: [] }), []);
  });

  it("are both of a gang of two, and never the one of a gang of one", () => {
    assert.deepEqual(suspects({ w0: [1], w1: [0] }, ["w0", "w1"]), ["w0", "w1"]);
    assert.deepEqual(suspects({ w0: [0] }, ["w0"]), []);
  });

  it("stay so for a minute, and each time for twice as long, up to an hour", () => {
    let last = suspicionAfter(undefined, 5);
    assert.deepEqual(last, { endMs: 60_005, lastsMs: 60_000 });
    assert.equal(suspicionAfter(last, 100_000).endMs, 220_000);
    for (let count = 0; count < 20; count++) last = suspicionAfter(last, 0);
    assert.equal(last.lastsMs, 3_600_000);
  });
});
