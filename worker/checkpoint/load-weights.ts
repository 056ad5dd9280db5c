/**
 * Weights from outside against the model that wants them.
 *
 * A backbone that is loaded by half trains like a random one and nobody notices, so it is all or
 * nothing: whatever else is missing or left over is reported only.
 */

import { FleetError } from "../../proto/errors.ts";
import { describeArchitecture, inferModel } from "../../proto/model/infer-model.ts";
import {
  describeMismatch,
  listFirst,
  matchTensors,
  type TensorMatch,
} from "../../proto/model/match-tensors.ts";
import type { TensorSpec } from "../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import type { HostTensor, NamedTensors } from "../model/model-state.ts";
import type { Weights } from "./read-weights.ts";

export interface LoadedWeights {
  /** Those of the specs that the file has, in the order of the specs. */
  readonly tensors: NamedTensors;
  readonly match: TensorMatch;
}

const BACKBONE = "backbone.";

/**
 * Takes what `specs` ask for out of `weights`.
 *
 * @param model of the specs, to say what else the file may hold
 * @throws {FleetError} CHECKPOINT_INVALID when a tensor of the backbone is missing or misshapen
 */
export function loadWeights(
  { tensors }: Pick<Weights, "tensors">,
  specs: readonly TensorSpec[],
  model: ModelRecipe,
): LoadedWeights {
  const match = matchTensors(tensors, specs);
  checkBackbone(tensors, match, model);
  const found = match.matched.map((name): [string, HostTensor] => [name, tensors.get(name)!]);
  return { tensors: new Map(found), match };
}

/** One line for people: how many tensors were taken, and which were not. */
export function describeMatch({ matched, missing, unexpected, misshapen }: TensorMatch): string {
  const parts = [
    ["missing", missing],
    ["misshapen", misshapen.map(({ name }) => name)],
    ["unexpected", unexpected],
  ] as const;
  const others = parts
    .filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${names.length} ${what} (${listFirst(names, 3, ", ")})`);
  return [`${matched.length} tensors match`, ...others].join(", ");
}

function checkBackbone(tensors: NamedTensors, match: TensorMatch, model: ModelRecipe): void {
  const isBackbone = (name: string): boolean => name.startsWith(BACKBONE);
  const missing = match.missing.filter(isBackbone);
  const misshapen = match.misshapen.filter(({ name }) => isBackbone(name));
  if (missing.length === 0 && misshapen.length === 0) return;
  const problems = describeMismatch({ matched: [], missing, misshapen, unexpected: [] });
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `its backbone does not fit: ${missing.length} tensors are missing and ${misshapen.length} ` +
      `misshapen; ${guess(tensors, model)} (${listFirst(problems, 3)})`,
    { missing: missing.length, misshapen: misshapen.length },
  );
}

/** What the file holds instead, as far as that can be told. */
function guess(tensors: NamedTensors, wanted: ModelRecipe): string {
  const want = `the recipe wants a ${describeArchitecture(wanted)}`;
  try {
    return `the file has a ${describeArchitecture(inferModel(tensors).model)}, ${want}`;
  } catch (thrown) {
    const names = listFirst([...tensors.keys()], 3, ", ");
    const reason = FleetError.from(thrown).message;
    return `${want}; as for the file, whose tensors are ${names}: ${reason}`;
  }
}
