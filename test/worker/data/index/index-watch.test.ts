import assert from "node:assert/strict";
import { type IndexProgress, openWatch } from "../../../../worker/data/index/index-watch.ts";

describe("index watch", () => {
  const word = (): Int32Array<SharedArrayBuffer> => new Int32Array(new SharedArrayBuffer(4));

  it("tells how far the index has come, from some time on", () => {
    const told: IndexProgress[] = [];
    const watch = openWatch(word(), (progress) => told.push(progress));
    watch(1, 0);
    assert.equal(told.length, 0);
    for (let images = 2; told.length < 2; images++) watch(images, 0.5);
    assert.ok(told[0]!.images < told[1]!.images);
    assert.equal(told[1]!.share, 0.5);
  });

  it("ends the work when it is cancelled", () => {
    const cancelled = word();
    const watch = openWatch(cancelled, () => {});
    watch(1, 0);
    Atomics.store(cancelled, 0, 1);
    assert.throws(
      () => {
        for (let images = 2; images < 100; images++) watch(images, 0);
      },
      { code: "GENERATION_ABORTED" },
    );
  });
});
