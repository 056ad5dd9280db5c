/** WatchExperiment: the one call of an operator's that stays open. */

import type { ServerWritableStream } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import type { ExperimentUpdate, WatchExperimentRequest } from "../../proto/gen/coordinator.ts";
import { toServiceError } from "../../proto/grpc-errors.ts";
import type { Connections } from "../../proto/grpc-listener.ts";
import { PeerQuota } from "../../proto/peer-quota.ts";
import { hostOf } from "../../proto/transport.ts";
import { type Experiment, isFinished } from "../experiment/experiment.ts";
import type { Scheduler } from "../scheduling/scheduler.ts";
import type { ControlLimits } from "./control-limits.ts";
import { toWireExperiment, toWireStragglers } from "./experiment-message.ts";
import { type ControlRefusals, refusalReason } from "./refusal-reasons.ts";

export interface WatchOptions {
  readonly scheduler: Scheduler;
  readonly limits: Pick<ControlLimits, "watchers" | "watchStallMs">;
  readonly refusals: ControlRefusals;
  readonly connections: Connections;
}

type WatchCall = ServerWritableStream<WatchExperimentRequest, ExperimentUpdate>;

/** The handler, which keeps count of those who watch. */
export function watchExperiment(options: WatchOptions): (call: WatchCall) => void {
  const watchers = new PeerQuota(options.limits.watchers);
  return (call) => {
    try {
      const leave = enter(watchers, call, options);
      call.once("cancelled", leave);
      watch(call, options);
    } catch (thrown) {
      const error = FleetError.from(thrown);
      const { code, message: because } = error;
      if (code === "OVERLOADED")
        options.refusals.add(refusalReason(code), { peer: call.getPeer(), because });
      call.emit("error", toServiceError(error));
    }
  };
}

function enter(watchers: PeerQuota, call: WatchCall, { limits }: WatchOptions): () => void {
  const leave = watchers.take(hostOf(call.getPeer()));
  if (leave) return leave;
  const { perPeer, total } = limits.watchers;
  const bound = `${perPeer} of one address, ${total} in all`;
  throw new FleetError("OVERLOADED", `too many watch experiments (${bound})`);
}

/**
 * Sends the state at once and after each change. A reader that is slower than the changes gets the
 * newest state when it is ready for one, not every state late; one that has stopped is cut off.
 *
 * @throws {FleetError} NOT_FOUND
 */
function watch(call: WatchCall, { scheduler, limits, refusals, connections }: WatchOptions): void {
  const { experimentId } = call.request;
  let pending: Experiment | undefined;
  /** Runs while an update is under way. */
  let stall: NodeJS.Timeout | undefined;

  const flush = (): void => {
    if (stall || pending === undefined) return;
    const experiment = pending;
    pending = undefined;
    const recipeJson = scheduler.recipeJson(experimentId);
    const stragglers = toWireStragglers(scheduler, experiment);
    const message = toWireExperiment(experiment, { recipeJson, withHistory: false, stragglers });
    stall = setTimeout(giveUp, limits.watchStallMs);
    call.write({ experiment: message }, () => {
      clearTimeout(stall);
      stall = undefined;
      flush();
    });
    if (!isFinished(experiment)) return;
    unwatch();
    call.end();
  };
  const giveUp = (): void => {
    const peer = call.getPeer();
    const because = `nothing was read for ${limits.watchStallMs} ms`;
    refusals.add("slow-reader", { peer, experiment: experimentId, because });
    call.emit("error", toServiceError(new FleetError("OVERLOADED", because)));
    connections.cut(peer);
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
