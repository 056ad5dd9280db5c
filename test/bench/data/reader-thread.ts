/** Takes batches as fast as they come, and says how long all but the first `warmup` images took. */

import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { openBatches } from "../../../worker/data/batch-reader.ts";
import type { SharedBatches } from "../../../worker/data/loaders.ts";

export interface ReaderTimes {
  readonly images: number;
  readonly seconds: number;
}

const { shared, warmup } = workerData as {
  readonly shared: SharedBatches;
  readonly warmup: number;
};
const reader = openBatches(shared);
let images = -warmup;
let begin = 0;
for (let batch = reader.next(); batch !== undefined; batch = reader.next()) {
  images += batch.count;
  reader.done();
  if (images === 0) begin = performance.now();
}
assert.ok(begin > 0, "the warm-up does not end with a batch");
const times: ReaderTimes = { images, seconds: (performance.now() - begin) / 1000 };
parentPort?.postMessage(times);
