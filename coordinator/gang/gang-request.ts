/** What an experiment asks of the planner. Pure. */

import { type Experiment, presentStage } from "../experiment/experiment.ts";
import type { GangRequest } from "./plan-gangs.ts";

/** Undefined while it asks for nothing. */
export function toRequest(experiment: Experiment, isHandedOver: boolean): GangRequest | undefined {
  const { id, phase, priority, submittedUnixMs, lastGang } = experiment;
  const { name: stage, sizes, waitMs } = presentStage(experiment);
  const most = sizes[0] ?? 0;
  // Ranks that have finished are free already: there is nothing left to share with more workers.
  const couldGrow =
    phase.status === "running" && phase.finished.length === 0 && phase.gang.length < most;
  if (phase.status !== "waiting" && !couldGrow) return undefined;
  return {
    experimentId: id,
    stage,
    sizes,
    // A gang that had settled for fewer need not wait again: it can grow later.
    enough: Math.min(experiment.settled?.size ?? most, most),
    waitMs,
    priority,
    submittedUnixMs,
    isHandedOver,
    lastGang,
    isRunning: couldGrow,
  };
}
