/** Sleeps until the first of the words it is given is not 0. */

import { parentPort, workerData } from "node:worker_threads";
import { findFutex } from "../../../worker/collective/futex.ts";

const words = workerData as Int32Array;
parentPort?.postMessage("about to sleep");
while (Atomics.load(words, 0) === 0) findFutex()?.wait(words, 0, 60_000);
