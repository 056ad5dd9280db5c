import assert from "node:assert/strict";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { type Futex, findFutex } from "../../../worker/collective/futex.ts";

const LONG_MS = 60_000;

describe("a futex", () => {
  let futex: Futex;
  before(() => {
    const found = findFutex();
    assert.ok(found, "this platform has futexes");
    futex = found;
  });

  it("is not slept on when the word has another value", () => {
    futex.wait(Int32Array.of(1), 0, LONG_MS);
  });

  it("lets its sleeper go when its time is over", () => {
    futex.wait(Int32Array.of(0), 0, 1);
  });

  it("wakes a sleeper", async () => {
    const words = new Int32Array(new SharedArrayBuffer(64));
    const sleeper = new Worker(new URL("./futex-sleeper.js", import.meta.url), {
      workerData: words,
    });
    await once(sleeper, "message");
    Atomics.store(words, 0, 1);
    futex.wake(words);
    assert.deepEqual(await once(sleeper, "exit"), [0]);
  });
});
