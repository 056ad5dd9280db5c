/** Books what synchronised batch norm costs. */

import type { BatchReducer } from "../engine/engine.ts";
import type { PhaseClock } from "./phase-clock.ts";

export function timedReducer(reducer: BatchReducer, clock: PhaseClock): BatchReducer {
  return {
    moments: (local) => clock.syncNorms(() => reducer.moments(local)),
    sums: (sums) => clock.syncNorms(() => reducer.sums(sums)),
  };
}
