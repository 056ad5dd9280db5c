/** What a simulated worker is dedicated to. */

import type { Experiment } from "../../coordinator/experiment/experiment.ts";
import type { Dedication } from "../../coordinator/member/dedication.ts";
import type { Prng } from "../support/prng.ts";
import type { SimulatedWorker } from "./simulated-worker.ts";

/** An experiment, a stage, both, or in rare cases neither. */
export function drawDedication(prng: Prng, experiments: readonly Experiment[]): Dedication {
  const { id } = experiments[prng.int(0, experiments.length - 1)] ?? {};
  const experiment = id !== undefined && prng.chance(0.6) ? { experimentId: id } : {};
  const stage = prng.chance(0.6)
    ? { stage: prng.chance(0.5) ? ("pretrain" as const) : ("linear" as const) }
    : {};
  const isAny = Object.keys({ ...experiment, ...stage }).length === 0;
  return { ...experiment, ...stage, leaveWhenOver: !isAny && prng.chance(0.7) };
}

/** Whether the worker is to leave with its work, and that was over when an experiment ended. */
export function isOver(
  { dedication, sinceMs }: SimulatedWorker,
  experiments: readonly Experiment[],
): boolean {
  if (!dedication?.leaveWhenOver) return false;
  const { experimentId, stage } = dedication;
  return experiments.some(({ id, finishedUnixMs }) => {
    if (finishedUnixMs === undefined) return false;
    if (experimentId !== undefined) return experimentId === id;
    // The one before may have been over when the worker came.
    return stage === "linear" && finishedUnixMs >= sinceMs;
  });
}
