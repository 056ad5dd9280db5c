/** What becomes of a stage's job in the queue. */

import type { StageName } from "../../proto/recipe.ts";
import type { Experiment } from "../experiment/experiment.ts";
import type { Verdict } from "../store/stage-queue.ts";

/** A stage that is to come, or is under way, is parked. */
export function judgeStage({ stages, stageIndex, phase }: Experiment, stage: StageName): Verdict {
  const index = stages.findIndex(({ name }) => name === stage);
  if (index < stageIndex || phase.status === "succeeded") return { type: "complete" };
  if (phase.status === "failed") return { type: "fail", because: phase.message };
  if (phase.status === "cancelled") return { type: "fail", because: "cancelled" };
  return { type: "park" };
}
