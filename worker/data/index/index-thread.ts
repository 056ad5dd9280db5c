/** Entry point of an index thread. Says "progress" as needed, then "done" or "failed". */

import { parentPort, workerData } from "node:worker_threads";
import { FleetError, type PlainError } from "../../../proto/errors.ts";
import { type IndexedDataset, type IndexRequest, indexDataset } from "./index-dataset.ts";
import { type IndexProgress, openWatch } from "./index-watch.ts";

export interface IndexThreadData {
  readonly request: IndexRequest;
  /** One word; anything but 0 ends the work. */
  readonly cancelled: Int32Array<SharedArrayBuffer>;
}

export type IndexMessage =
  | { readonly type: "progress"; readonly progress: IndexProgress }
  | { readonly type: "done"; readonly indexed: IndexedDataset }
  | { readonly type: "failed"; readonly error: PlainError };

const post = (message: IndexMessage): void => parentPort?.postMessage(message);

const { request, cancelled } = workerData as IndexThreadData;
const watch = openWatch(cancelled, (progress) => post({ type: "progress", progress }));
try {
  post({ type: "done", indexed: indexDataset(request, watch) });
} catch (thrown) {
  post({ type: "failed", error: FleetError.from(thrown).toPlain() });
}
