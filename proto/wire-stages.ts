/** Stages: the wire's names for ours, and back. Pure. */

import { FleetError } from "./errors.ts";
import { Stage } from "./gen/coordinator.ts";
import type { StageName } from "./recipe.ts";

const STAGES = {
  pretrain: Stage.STAGE_PRETRAIN,
  linear: Stage.STAGE_LINEAR,
} as const satisfies Record<StageName, Stage>;

/** @param stage that of nothing in particular when it is undefined */
export function toWireStage(stage: StageName | undefined): Stage {
  return stage === undefined ? Stage.STAGE_UNSPECIFIED : STAGES[stage];
}

/** @throws {FleetError} USAGE for a stage that this version does not know */
export function fromWireStage(stage: Stage): StageName {
  const name = findStage(stage);
  if (name) return name;
  throw new FleetError("USAGE", `there is no stage ${stage}`);
}

/** Undefined for none, and for one that this version does not know. */
export function findStage(stage: Stage): StageName | undefined {
  return STAGE_NAMES.find((name) => STAGES[name] === stage);
}

const STAGE_NAMES = Object.keys(STAGES) as StageName[];
