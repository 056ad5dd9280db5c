import path from "node:path";
import { Worker } from "node:worker_threads";

/** Starts the thread whose entry is `entry`, a path without extension relative to `from`. */
export function startThread(entry: string, from: string, workerData: unknown): Worker {
  const extension = path.extname(new URL(from).pathname);
  return new Worker(new URL(`${entry}${extension}`, from), { workerData });
}
