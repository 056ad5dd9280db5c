/**
 * What work a worker takes: any, or that of one experiment, one stage, or one stage of one
 * experiment. Pure.
 */

import type { StageName } from "../../proto/recipe.ts";

export interface Dedication {
  /** Absent: of any experiment. */
  readonly experimentId?: string;
  /** Absent: any stage. */
  readonly stage?: StageName;
  /** It is sent away once there is no such work any more. */
  readonly leaveWhenOver: boolean;
}

/** A stage of an experiment. */
export interface Work {
  readonly experimentId: string;
  readonly stage: StageName;
}

/** Whether a worker of this dedication, if it has any, may be given the work. */
export function mayTake(dedication: Dedication | undefined, work: Work): boolean {
  const { experimentId = work.experimentId, stage = work.stage } = dedication ?? {};
  return experimentId === work.experimentId && stage === work.stage;
}

/** e.g. "pretrain of photos-3f2a9c". */
export function nameDedication({ experimentId, stage }: Omit<Dedication, "leaveWhenOver">): string {
  if (experimentId === undefined) return stage ?? "any work";
  return stage === undefined ? experimentId : `${stage} of ${experimentId}`;
}
