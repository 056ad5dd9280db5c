/** Entry point of a loader thread. Says "ready", then "skipped" as needed, then "finished". */

import { parentPort, workerData } from "node:worker_threads";
import { type LoaderInput, runLoader, type Skip } from "./loader.ts";

export type LoaderMessage =
  | { readonly type: "ready" }
  | { readonly type: "skipped"; readonly skip: Skip }
  | { readonly type: "finished" };

const post = (message: LoaderMessage): void => parentPort?.postMessage(message);

// A pending Atomics.waitAsync does not keep a thread alive; a port that listens does.
parentPort?.on("message", () => {});
post({ type: "ready" });
await runLoader(workerData as LoaderInput, (skip) => post({ type: "skipped", skip }));
post({ type: "finished" });
parentPort?.close();
