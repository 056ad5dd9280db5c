/** The main thread's side of indexing: starts the thread, hears of it, ends it. */

import path from "node:path";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../../proto/errors.ts";
import type { IndexedDataset, IndexRequest } from "./index-dataset.ts";
import type { IndexMessage, IndexThreadData } from "./index-thread.ts";
import type { IndexProgress } from "./index-watch.ts";

/** A thread that does not see that it is cancelled, since it sorts, is ended after this time. */
const CANCEL_MS = 1000;

/**
 * Indexes in a thread of its own: a million names take seconds, and the main thread has to keep up
 * its heartbeats.
 *
 * @throws {FleetError} as the thread does; whatever `signal` was aborted with, at once
 */
export async function runIndexThread(
  request: IndexRequest,
  options: {
    readonly signal: AbortSignal | undefined;
    readonly onProgress: (progress: IndexProgress) => void;
  },
): Promise<IndexedDataset> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const file = `./index-thread${path.extname(new URL(import.meta.url).pathname)}`;
  const cancelled = new Int32Array(new SharedArrayBuffer(4));
  const workerData: IndexThreadData = { request, cancelled };
  const worker = new Worker(new URL(file, import.meta.url), { workerData });
  let stop = (): void => {};
  try {
    return await new Promise<IndexedDataset>((resolve, reject) => {
      stop = () => {
        endSoon(worker, cancelled);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", stop, { once: true });
      const fail = (reason: string): void =>
        reject(new FleetError("UNEXPECTED", `the index thread ${reason}`));
      worker.on("message", (message: IndexMessage) => {
        if (message.type === "progress") onProgress(message.progress);
        else if (message.type === "done") resolve(message.indexed);
        else reject(FleetError.fromPlain(message.error));
      });
      worker.on("error", (error) => fail(`failed: ${error.message}`));
      worker.on("exit", (code) => fail(`ended with exit code ${code} before its work was done`));
    });
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Nobody waits for it, since it may hang in a file system that does not answer. */
function endSoon(worker: Worker, cancelled: Int32Array): void {
  Atomics.store(cancelled, 0, 1);
  worker.unref();
  const timer = setTimeout(() => void worker.terminate(), CANCEL_MS).unref();
  worker.once("exit", () => clearTimeout(timer));
}
