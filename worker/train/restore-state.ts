/** Puts the state that a stage goes on from into its model: afterwards the same on all ranks. */

import { type Beside, restoreCheckpoint, type Trained } from "./checkpoint-writer.ts";
import { restoreReplica } from "./replica.ts";
import type { StageContext } from "./stage-context.ts";
import type { ScalarLine } from "./stage-log.ts";
import { broadcastJson, broadcastState } from "./sync-state.ts";

export interface Restored {
  /** Figures as all ranks have them. The probe is there where the state was found. */
  readonly beside: Beside;
  /** The rank that the others took the state from; undefined when each had it. */
  readonly root: number | undefined;
}

const NOTHING: Beside = { scalars: {} };

/**
 * Called by all ranks; does nothing to a model that the stage starts with.
 *
 * @throws {FleetError} CHECKPOINT_INVALID naming the folder and what does not fit;
 *   GENERATION_ABORTED
 */
export function restoreState(context: StageContext, model: Trained): Restored {
  const { job, group, replicas, log } = context;
  const { source, rank } = job;
  if (source.type === "initial") return { beside: NOTHING, root: undefined };
  const { root } = source;
  let own = NOTHING;
  let lines: readonly ScalarLine[] = [];
  if (source.type === "checkpoint") {
    if (rank === root) own = restoreCheckpoint(source.folder, model);
  } else {
    const replica = replicas.find(job);
    if (replica) {
      restoreReplica(replica, model);
      ({ beside: own, lines } = replica);
    }
  }
  if (root === undefined) {
    log.makeUp(lines);
    return { beside: own, root };
  }
  broadcastState(group, model, root);
  const { scalars, ...told } = broadcastJson(group, { scalars: own.scalars, lines }, root);
  log.makeUp(told.lines);
  const hasProbe = rank === root && own.probe !== undefined;
  return { beside: { scalars, ...(hasProbe && { probe: own.probe }) }, root };
}
