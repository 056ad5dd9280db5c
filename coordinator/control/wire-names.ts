/** States and stages: the wire's names for ours, and back. */

import { FleetError } from "../../proto/errors.ts";
import { ExperimentState } from "../../proto/gen/coordinator.ts";
import type { Status } from "../experiment/phase.ts";

export { fromWireStage, toWireStage } from "../../proto/wire-stages.ts";

const STATES = {
  waiting: ExperimentState.EXPERIMENT_STATE_WAITING,
  forming: ExperimentState.EXPERIMENT_STATE_FORMING,
  running: ExperimentState.EXPERIMENT_STATE_RUNNING,
  stopping: ExperimentState.EXPERIMENT_STATE_STOPPING,
  succeeded: ExperimentState.EXPERIMENT_STATE_SUCCEEDED,
  failed: ExperimentState.EXPERIMENT_STATE_FAILED,
  cancelled: ExperimentState.EXPERIMENT_STATE_CANCELLED,
  paused: ExperimentState.EXPERIMENT_STATE_PAUSED,
} as const satisfies Record<Status, ExperimentState>;

export function toWireState(status: Status): ExperimentState {
  return STATES[status];
}

/** @throws {FleetError} VERSION_MISMATCH for a state that this version does not know */
export function fromWireState(state: ExperimentState): Status {
  for (const [name, wire] of Object.entries(STATES)) {
    if (wire === state) return name as Status;
  }
  throw new FleetError("VERSION_MISMATCH", `the coordinator knows a state ${state}, this does not`);
}
