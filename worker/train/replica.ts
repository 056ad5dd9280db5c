/**
 * The state of a stage that a rank keeps in memory when its generation ends early.
 *
 * All ranks hold the same state after each step. So whoever of a gang is left can go on with the
 * next one from where it was, and newcomers take the state from a peer: no checkpoint is read.
 */

import type { StageName } from "../../proto/recipe.ts";
import type { ModelState, NamedTensors } from "../model/model-state.ts";
import type { Beside, Trained } from "./checkpoint-writer.ts";
import type { ScalarLine } from "./stage-log.ts";

export interface Replica {
  readonly experimentId: string;
  readonly stage: StageName;
  /** Last step that was applied, counted from 1. */
  readonly step: number;
  readonly state: ModelState;
  readonly velocities: NamedTensors;
  readonly beside: Beside;
  /** What the step has left in scalars.jsonl, or was about to. */
  readonly lines: readonly ScalarLine[];
}

/** Which stage of which experiment. */
export type ReplicaKey = Pick<Replica, "experimentId" | "stage">;

/** The one replica that an engine thread keeps between two generations. */
export class ReplicaKeeper {
  #replica: Replica | undefined;

  /** The replica of this stage; one of another stage is let go. */
  find({ experimentId, stage }: ReplicaKey): Replica | undefined {
    const kept = this.#replica;
    if (kept?.experimentId !== experimentId || kept.stage !== stage) this.#replica = undefined;
    return this.#replica;
  }

  keep(replica: Replica): void {
    this.#replica = replica;
  }

  drop(): void {
    this.#replica = undefined;
  }
}

/** Copies what `model` holds. */
export function copyReplica(
  { experimentId, stage, ...rest }: ReplicaKey & Pick<Replica, "step" | "beside" | "lines">,
  model: Trained,
): Replica {
  const state = model.exportState();
  return { experimentId, stage, ...rest, state, velocities: model.exportVelocities() };
}

/** Overwrites what `model` holds. */
export function restoreReplica({ state, velocities }: Replica, model: Trained): void {
  model.importState(state);
  model.importVelocities(velocities);
}
