/**
 * Closes loaders in the middle of their work. This thread can only end if it leaves none behind.
 */

import { parentPort, workerData } from "node:worker_threads";
import { openBatches } from "../../../worker/data/batch-reader.ts";
import type { LoaderInput } from "../../../worker/data/loader.ts";
import { startLoaders } from "../../../worker/data/loaders.ts";

const { dataset, plan } = workerData as Pick<LoaderInput, "dataset" | "plan">;
const loaders = await startLoaders({ dataset, plan, threads: 3, onSkipped: () => {} });
const batch = openBatches(loaders.shared).next();
await loaders.close();
await loaders.close();
parentPort?.postMessage(batch?.step);
