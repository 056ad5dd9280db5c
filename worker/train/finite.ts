/** Stops a stage at the step in which its numbers went wrong. */

import { FleetError } from "../../proto/errors.ts";
import type { BatchReducer } from "../engine/engine.ts";

/**
 * @param where the rank that looked, the step counted from 1, and what was looked at with its verb
 * @throws {FleetError} LOSS_NOT_FINITE when a value is NaN or infinite
 */
export function assertFiniteNumbers(
  values: Float32Array,
  where: { readonly rank: number; readonly step: number; readonly what: string },
): void {
  const { rank, step, what } = where;
  for (const value of values) {
    if (Number.isFinite(value)) continue;
    const found = Number.isNaN(value) ? "NaN" : "infinite";
    throw new FleetError(
      "LOSS_NOT_FINITE",
      `rank ${rank}: ${what} ${found} in step ${step}; lower the learning rate or check the data`,
      { rank, step },
    );
  }
}

/**
 * Looks at this rank's batch statistics before they are mixed with those of the others: only there
 * can be told on which rank NaN arose.
 *
 * @param step the step under way, counted from 1
 */
export function guardReducer(
  reducer: BatchReducer,
  rank: number,
  step: () => number,
): BatchReducer {
  return {
    moments(local) {
      assertFiniteNumbers(local.variance, { rank, step: step(), what: "activations are" });
      return reducer.moments(local);
    },
    sums(sums) {
      assertFiniteNumbers(sums, { rank, step: step(), what: "gradients are" });
      reducer.sums(sums);
    },
  };
}
