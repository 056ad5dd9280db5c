/** What work a worker takes, in the wire's form and in ours. */

import { FleetError } from "../../proto/errors.ts";
import { Stage, type Dedication as WireDedication } from "../../proto/gen/coordinator.ts";
import { ID_PATTERN, ID_RULE } from "../../proto/limits.ts";
import type { Dedication } from "../member/dedication.ts";
import { fromWireStage, toWireStage } from "./wire-names.ts";

/** @throws {FleetError} USAGE */
export function parseDedication(wire: WireDedication): Dedication {
  const { experimentId, leaveWhenOver } = wire;
  if (experimentId !== "" && !ID_PATTERN.test(experimentId)) {
    throw new FleetError("USAGE", `register.dedication.experiment_id: ${ID_RULE}`);
  }
  const stage = wire.stage === Stage.STAGE_UNSPECIFIED ? undefined : fromWireStage(wire.stage);
  if (leaveWhenOver && experimentId === "" && stage === undefined) {
    const problem = "there is always more of any work: it needs an experiment or a stage";
    throw new FleetError("USAGE", `register.dedication.leave_when_over: ${problem}`);
  }
  return {
    ...(experimentId === "" ? {} : { experimentId }),
    ...(stage === undefined ? {} : { stage }),
    leaveWhenOver,
  };
}

export function toWireDedication(dedication: Dedication): WireDedication {
  const { experimentId = "", stage, leaveWhenOver } = dedication;
  const wireStage = stage === undefined ? Stage.STAGE_UNSPECIFIED : toWireStage(stage);
  return { experimentId, stage: wireStage, leaveWhenOver };
}
