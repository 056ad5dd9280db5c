/** One file of weights into another: what `worker convert` does, and what it reports. */

import { inferModel, modelTensors, partsOf } from "../../proto/model/infer-model.ts";
import type { TensorMatch } from "../../proto/model/match-tensors.ts";
import { elementCount } from "../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import { loadWeights } from "./load-weights.ts";
import { naming } from "./naming.ts";
import { readWeights, type Weights } from "./read-weights.ts";
import { type ExportedFile, type ExportOptions, writeWeights } from "./write-weights.ts";

export interface Conversion {
  readonly input: Omit<Weights, "tensors"> & {
    readonly tensors: number;
    /** Scalars in them, running statistics included. */
    readonly elements: number;
  };
  readonly model: ModelRecipe;
  readonly hasNeck: boolean;
  /** Of the linear classifier; undefined without one. */
  readonly outputs: number | undefined;
  readonly match: TensorMatch;
  readonly output: ExportedFile;
}

/**
 * Reads `input`, keeps what belongs to its model, and writes that to `output`.
 *
 * @param model what the file must hold; inferred when undefined
 * @throws {FleetError} as readWeights, inferModel, loadWeights and writeWeights
 */
export function convertWeights(
  input: string,
  output: string,
  options: ExportOptions & { readonly model: ModelRecipe | undefined },
): Conversion {
  const { tensors, ...origin } = readWeights(input);
  const held = options.model
    ? { ...partsOf(tensors), model: options.model }
    : naming(input, () => inferModel(tensors));
  const specs = modelTensors(held);
  const { tensors: taken, match } = naming(input, () =>
    loadWeights({ tensors }, specs, held.model),
  );
  const elements = [...tensors.values()].reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return {
    input: { ...origin, tensors: tensors.size, elements },
    model: held.model,
    hasNeck: held.hasNeck,
    outputs: held.classes,
    match,
    output: writeWeights(output, taken, origin, options),
  };
}
