/** What work this worker takes, as it tells the coordinator. */

import { Stage, type Dedication as WireDedication } from "../../proto/gen/coordinator.ts";
import type { StageName } from "../../proto/recipe.ts";
import type { Dedication } from "../config.ts";

const STAGES = {
  pretrain: Stage.STAGE_PRETRAIN,
  linear: Stage.STAGE_LINEAR,
} as const satisfies Record<StageName, Stage>;

export function toWireDedication(dedication: Dedication | undefined): WireDedication | undefined {
  if (dedication === undefined) return undefined;
  const { experiment = "", stage, leaveWhenOver } = dedication;
  const wireStage = stage === undefined ? Stage.STAGE_UNSPECIFIED : STAGES[stage];
  return { experimentId: experiment, stage: wireStage, leaveWhenOver };
}
