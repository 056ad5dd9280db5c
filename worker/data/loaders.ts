/** The main thread's side of data loading: starts the loader threads, hears of them, ends them. */

import path from "node:path";
import { Worker } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import type { Dataset } from "./dataset.ts";
import { allocateCache } from "./decode-cache.ts";
import { firstTask, type LoadPlan, type Schedule, scheduleOf } from "./load-plan.ts";
// Loading the loader here also keeps sharp's native library in memory: it must not be unloaded when
// the last thread that uses it ends.
import { type LoaderInput, runLoader, type Skip } from "./loader.ts";
import type { LoaderMessage } from "./loader-thread.ts";
import type { SharedRing } from "./ring-layout.ts";
import { allocateRing, type Control, closeRing, failRing, viewControl } from "./ring-layout.ts";

/** A thread that has not ended by itself after this time is terminated. */
const CLOSE_MS = 5000;

/** What the engine thread needs to read the batches. Structured-cloneable. */
export interface SharedBatches {
  readonly ring: SharedRing;
  readonly schedule: Schedule;
  /** Edge of the square views in pixels. */
  readonly imageSize: number;
}

export interface Loaders {
  /** For `openBatches` in the engine thread. */
  readonly shared: SharedBatches;
  /**
   * Ends the load wherever it is; resolves when no thread is left. A reader that waits, or asks for
   * another batch before the end of the plan, gets GENERATION_ABORTED. May be called twice.
   */
  close(): Promise<void>;
}

/**
 * Starts to load a plan.
 *
 * @param options.threads loader threads; with 0 the calling thread loads, between its other work,
 * and
 *   the reader must be in another thread
 * @param options.onSkipped is called once per unreadable image
 * @throws {FleetError} DATA_INVALID when the data set is too small for the plan
 */
export async function startLoaders(options: {
  readonly dataset: Dataset;
  readonly plan: LoadPlan;
  readonly threads: number;
  readonly onSkipped: (skip: Skip) => void;
}): Promise<Loaders> {
  const { dataset, plan, threads, onSkipped } = options;
  const schedule = scheduleOf(plan, dataset.count);
  const ring = allocateRing({
    images: dataset.count,
    batch: schedule.batch,
    imageBytes: schedule.views * 3 * plan.imageSize ** 2,
    firstTask: firstTask(schedule, schedule.startStep),
  });
  const control = viewControl(ring.control);
  const input: LoaderInput = { dataset, plan, ring, cache: allocateCache(dataset.count) };
  const shared: SharedBatches = { ring, schedule, imageSize: plan.imageSize };

  if (threads === 0) {
    const finished = runLoader(input, onSkipped);
    return {
      shared,
      close: () => {
        closeRing(control);
        return finished;
      },
    };
  }
  const started = Array.from({ length: threads }, () => startThread(input, control, onSkipped));
  const close = async (): Promise<void> => {
    closeRing(control);
    await Promise.all(started.map(({ worker, ended }) => endThread(worker, ended)));
  };
  try {
    await Promise.all(started.map(({ ready }) => ready));
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return { shared, close };
}

interface Thread {
  readonly worker: Worker;
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
}

function startThread(
  input: LoaderInput,
  control: Control,
  onSkipped: (skip: Skip) => void,
): Thread {
  const file = `./loader-thread${path.extname(new URL(import.meta.url).pathname)}`;
  const worker = new Worker(new URL(file, import.meta.url), { workerData: input });
  const ended = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  let finished = false;
  const ready = new Promise<void>((resolve, reject) => {
    const fail = (reason: string): void => {
      const error = new FleetError("UNEXPECTED", `a loader thread ${reason}`);
      failRing(control, error.toPlain());
      reject(error);
    };
    worker.on("message", (message: LoaderMessage) => {
      if (message.type === "ready") resolve();
      else if (message.type === "skipped") onSkipped(message.skip);
      else finished = true;
    });
    worker.on("error", (error) => fail(`failed: ${error.message}`));
    worker.on("exit", (code) => {
      if (!finished) fail(`ended with exit code ${code} before its work was done`);
    });
  });
  return { worker, ready, ended };
}

async function endThread(worker: Worker, ended: Promise<void>): Promise<void> {
  const timer = setTimeout(() => void worker.terminate(), CLOSE_MS);
  await ended;
  clearTimeout(timer);
}
