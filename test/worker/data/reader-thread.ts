/** Reads batches as the engine thread does, and tells what it gets: batches, then how it ended. */

import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { openBatches } from "../../../worker/data/batch-reader.ts";
import type { SharedBatches } from "../../../worker/data/loaders.ts";

export type ReaderMessage =
  | { readonly type: "batch"; readonly step: number; readonly count: number }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: PlainError };

const port = parentPort;
assert.ok(port !== null);
const post = (message: ReaderMessage): void => port.postMessage(message);
const reader = openBatches(workerData as SharedBatches);
try {
  for (let batch = reader.next(); batch !== undefined; batch = reader.next()) {
    post({ type: "batch", step: batch.step, count: batch.count });
    reader.done();
  }
  post({ type: "end" });
} catch (thrown) {
  post({ type: "error", error: FleetError.from(thrown).toPlain() });
}
