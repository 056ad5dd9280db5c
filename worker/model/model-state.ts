/** A model's numbers on the host, in the form that is checkpointed and sent to peers. */

import { FleetError } from "../../proto/errors.ts";
import { describeMismatch, listFirst, matchTensors } from "../../proto/model/match-tensors.ts";
import type { TensorSpec } from "../../proto/model/model-plan.ts";

export interface HostTensor {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** By PyTorch name. */
export type NamedTensors = ReadonlyMap<string, HostTensor>;

/** Gives memory for so many numbers, into which the state of a model is to be copied. */
export type Allocate = (elements: number) => Float32Array;

export interface ModelState {
  /** Weights, biases, running means and variances, in state_dict order. */
  readonly tensors: NamedTensors;
  /** Steps that went into the running statistics: every norm's `num_batches_tracked`. */
  readonly batchesTracked: number;
}

/**
 * Checks that `tensors` holds exactly what `specs` asks for.
 *
 * @param what names the tensors in the message, e.g. "model state"
 * @throws {FleetError} CHECKPOINT_INVALID, naming what is missing, unexpected or misshapen
 */
export function checkTensors(
  tensors: NamedTensors,
  specs: readonly TensorSpec[],
  what: string,
): void {
  const problems = describeMismatch(matchTensors(tensors, specs));
  if (problems.length === 0) return;
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `${what} does not fit the model: ${listFirst(problems)}`,
    {
      problems: problems.length,
    },
  );
}
