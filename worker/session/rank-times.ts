/** Where this rank's time goes, as its heartbeats tell. */

import type { RankTimes } from "../../proto/gen/coordinator.ts";
import type { StepReport } from "../train/stage-job.ts";
import { runningMean } from "./running-mean.ts";

/** Running means that take in one step more; `times` is undefined before the first. */
export function withStep(
  times: RankTimes | undefined,
  { stepSeconds, waitSeconds, phaseSeconds }: StepReport,
): RankTimes {
  return {
    ownStepSeconds: runningMean(times?.ownStepSeconds, ownSeconds({ stepSeconds, waitSeconds })),
    dataSeconds: runningMean(times?.dataSeconds, phaseSeconds.data),
  };
}

/** What a step takes a rank without the time that it waits for others. */
export function ownSeconds({
  stepSeconds,
  waitSeconds,
}: Pick<StepReport, "stepSeconds" | "waitSeconds">): number {
  // The two clocks begin and end a few microseconds apart.
  return Math.max(0, stepSeconds - waitSeconds);
}
