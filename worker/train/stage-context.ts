/** What a stage has at hand on its rank. */

import path from "node:path";
import { FleetError } from "../../proto/errors.ts";
import type { ProcessGroup } from "../collective/process-group.ts";
import { CONTROL_STOP, type EngineThreadMessage, type StageJob } from "./stage-job.ts";
import type { StageLog } from "./stage-log.ts";

export interface StageContext {
  readonly job: StageJob;
  readonly group: ProcessGroup;
  readonly log: StageLog;
  readonly send: (message: EngineThreadMessage) => void;
}

/** Folder of a stage's checkpoints. */
export function checkpointStore(stageFolder: string): string {
  return path.join(stageFolder, "checkpoints");
}

/** @throws {FleetError} GENERATION_ABORTED when the main thread asked the stage to stop */
export function throwIfStopped(job: StageJob): void {
  if (Atomics.load(job.control, CONTROL_STOP) === 0) return;
  throw new FleetError("GENERATION_ABORTED", "stopped at a step boundary");
}
