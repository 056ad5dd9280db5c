/** A model's numbers on the host, in the form that is checkpointed and sent to peers. */

import { FleetError } from "../../proto/errors.ts";
import type { TensorSpec } from "../../proto/model/model-plan.ts";

export interface HostTensor {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly data: Float32Array;
}

/** By PyTorch name. */
export type NamedTensors = ReadonlyMap<string, HostTensor>;

export interface ModelState {
  /** Weights, biases, running means and variances, in state_dict order. */
  readonly tensors: NamedTensors;
  /** Steps that went into the running statistics: every norm's `num_batches_tracked`. */
  readonly batchesTracked: number;
}

const LISTED_PROBLEMS_MAX = 5;

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
  const expected = new Map(specs.map((spec) => [spec.name, spec]));
  const problems: string[] = [];
  for (const { name, shape } of specs) {
    const found = tensors.get(name);
    if (!found) problems.push(`${name} is missing`);
    else if (found.shape.join() !== shape.join()) {
      problems.push(`${name} is [${found.shape.join(", ")}], not [${shape.join(", ")}]`);
    }
  }
  for (const name of tensors.keys()) {
    if (!expected.has(name)) problems.push(`${name} is not part of the model`);
  }
  if (problems.length === 0) return;

  const more = problems.length - LISTED_PROBLEMS_MAX;
  const listed = problems.slice(0, LISTED_PROBLEMS_MAX).join("; ");
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `${what} does not fit the model: ${listed}${more > 0 ? `; and ${more} more` : ""}`,
    { problems: problems.length },
  );
}
