/** Goes through a monitor's split as an engine thread does, and tells which images it gets. */

import assert from "node:assert/strict";
import { parentPort, workerData } from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { passOver } from "../../../worker/train/monitor-batches.ts";
import type { MonitorJob, MonitorSplit, StageJob } from "../../../worker/train/stage-job.ts";

export interface PassThreadData {
  readonly control: StageJob["control"];
  readonly monitor: MonitorJob;
  readonly splits: readonly MonitorSplit[];
}

export type PassMessage =
  | { readonly type: "batch"; readonly split: MonitorSplit; readonly indices: readonly number[] }
  | { readonly type: "end" }
  | { readonly type: "error"; readonly error: PlainError };

const port = parentPort;
assert.ok(port !== null);
const post = (message: PassMessage): void => port.postMessage(message);
const { control, monitor, splits } = workerData as PassThreadData;
try {
  for (const split of splits) {
    passOver({ control } as StageJob, monitor, split, (batch) => {
      post({ type: "batch", split, indices: [...(batch?.indices ?? [])] });
    });
  }
  post({ type: "end" });
} catch (thrown) {
  post({ type: "error", error: FleetError.from(thrown).toPlain() });
}
