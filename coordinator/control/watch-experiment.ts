/** WatchExperiment: the states of an experiment, as they come. */

import type { ServerWritableStream } from "@grpc/grpc-js";
import type { ExperimentUpdate, WatchExperimentRequest } from "../../proto/gen/coordinator.ts";
import { type Experiment, isFinished } from "../experiment/experiment.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import { describeExperiment } from "./experiment-message.ts";
import { cutOff, forReaders, type StreamOptions } from "./stream-readers.ts";

export interface WatchOptions extends StreamOptions {
  readonly scheduler: Scheduler;
}

type WatchCall = ServerWritableStream<WatchExperimentRequest, ExperimentUpdate>;

/** The handler, which keeps count of those who watch. */
export function watchExperiment(options: WatchOptions): (call: WatchCall) => void {
  return forReaders("watch experiments", options, (call) => watch(call, options));
}

/**
 * Sends the state at once and after each change. A reader that is slower than the changes gets the
 * newest state when it is ready for one, not every state late; one that has stopped is cut off.
 *
 * @throws {FleetError} NOT_FOUND
 */
function watch(call: WatchCall, options: WatchOptions): void {
  const { scheduler, limits } = options;
  const { experimentId } = call.request;
  let pending: Experiment | undefined;
  /** Runs while an update is under way. */
  let stall: NodeJS.Timeout | undefined;

  const flush = (): void => {
    if (stall || pending === undefined) return;
    const experiment = pending;
    pending = undefined;
    const recipeJson = scheduler.recipeJson(experimentId);
    const message = describeExperiment(scheduler, experiment, { recipeJson, withHistory: false });
    stall = setTimeout(() => cutOff(call, options), limits.watchStallMs);
    call.write({ experiment: message }, () => {
      clearTimeout(stall);
      stall = undefined;
      flush();
    });
    if (!isFinished(experiment)) return;
    unwatch();
    call.end();
  };
  const offer = (experiment: Experiment): void => {
    pending = experiment;
    flush();
  };

  const present = scheduler.experiment(experimentId);
  const unwatch = scheduler.watch(experimentId, offer);
  const stop = (): void => {
    clearTimeout(stall);
    unwatch();
  };
  call.once("cancelled", stop);
  call.once("close", stop);
  call.once("error", stop);
  offer(present);
}
