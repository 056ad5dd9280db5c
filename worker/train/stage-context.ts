/** What a stage has at hand on its rank. */

import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { ProcessGroup } from "../collective/process-group.ts";
import type { Tracer } from "../trace/tracer.ts";
import type { CheckpointSender } from "./checkpoint-sender.ts";
import type { ReplicaKeeper } from "./replica.ts";
import {
  CONTROL_STOP,
  type EngineThreadMessage,
  STOP_AT_STEP,
  type StageJob,
} from "./stage-job.ts";
import type { StageLog } from "./stage-log.ts";

/** A look at this rank's numbers, or at whether all ranks hold the same. */
export type CheckKind = "numbers" | "replicas";

export interface StageContext {
  readonly job: StageJob;
  readonly group: ProcessGroup;
  readonly log: StageLog;
  /** On rank 0, where checkpoints are wanted. */
  readonly checkpoints: CheckpointSender | undefined;
  readonly replicas: ReplicaKeeper;
  readonly send: (message: EngineThreadMessage) => void;
  /** Absent unless a trace is written. */
  readonly tracer?: Tracer;
  /** Runs each check of a step; absent, it just runs. The benchmark measures them here. */
  readonly runCheck?: (kind: CheckKind, check: () => void) => void;
}

/** Folder of a stage's checkpoints. */
export function checkpointStore(stageFolder: string): string {
  return path.join(stageFolder, "checkpoints");
}

/** Whether the main thread asks for a stop; with `least` STOP_NOW, for one at once. */
export function isStopWanted(job: StageJob, least = STOP_AT_STEP): boolean {
  return Atomics.load(job.control, CONTROL_STOP) >= least;
}

/**
 * For loops between two steps, in which a rank may stop by itself.
 *
 * @throws {FleetError} GENERATION_ABORTED when {@link isStopWanted}
 */
export function throwIfStopped(job: StageJob, least = STOP_AT_STEP): void {
  if (isStopWanted(job, least)) throw stoppedAtStep();
}

export function stoppedAtStep(): FleetError {
  return new FleetError("GENERATION_ABORTED", "stopped at a step boundary");
}
