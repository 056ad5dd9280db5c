/**
 * How large a stage's model is, by mmpretrain's rule (`tools/analysis_tools/get_flops.py`, which
 * measures `extract_feat`): multiply-accumulates of the backbone's convolutions plus two operations
 * for each output of its batch norms; the linear stage adds its average pool. Neck, head, ReLU and
 * max-pool are free.
 */

import type { ModelRecipe, StageName } from "../recipe.ts";
import type { BackbonePlan, ConvNormPlan } from "./backbone-plan.ts";
import {
  elementCount,
  isParameter,
  type ModelPlan,
  planLinear,
  planPretrain,
} from "./model-plan.ts";

export interface ModelDescription extends ModelPlan {
  /** Scalars in weights and biases, trained or frozen. */
  readonly parameters: number;
  /** For one image of `imageSize` x `imageSize`. */
  readonly flops: number;
  /** Scalars that the convolutions put out for one image. */
  readonly activations: number;
}

/** Describes the model that `stage` runs; `classes` matters to the linear stage only. */
export function describeModel(
  model: ModelRecipe,
  stage: StageName,
  { imageSize, classes }: { readonly imageSize: number; readonly classes: number },
): ModelDescription {
  const plan = stage === "pretrain" ? planPretrain(model) : planLinear(model, classes);
  const { operations, outputs, pixels } = countBackbone(plan.backbone, imageSize);
  return {
    ...plan,
    parameters: plan.tensors
      .filter(isParameter)
      .reduce((sum, { shape }) => sum + elementCount(shape), 0),
    flops: operations + (stage === "linear" ? plan.backbone.features * pixels : 0),
    activations: outputs,
  };
}

/** Operations and outputs for one square image, and the pixels of the last feature map. */
function countBackbone(
  { stem, hasPool, blocks }: BackbonePlan,
  imageSize: number,
): { readonly operations: number; readonly outputs: number; readonly pixels: number } {
  let operations = 0;
  let outputs = 0;
  const run = (layer: ConvNormPlan, size: number): number => {
    const outputSize = slide(size, layer);
    const values = layer.outputs * outputSize ** 2;
    operations += values * layer.inputs * layer.kernel ** 2 + 2 * values;
    outputs += values;
    return outputSize;
  };

  let size = run(stem, imageSize);
  if (hasPool) size = slide(size, { kernel: 3, stride: 2, padding: 1 });
  for (const { body, downsample } of blocks) {
    if (downsample) run(downsample, size);
    for (const layer of body) size = run(layer, size);
  }
  return { operations, outputs, pixels: size ** 2 };
}

type Window = Pick<ConvNormPlan, "kernel" | "stride" | "padding">;

function slide(size: number, { kernel, stride, padding }: Window): number {
  return Math.floor((size + 2 * padding - kernel) / stride) + 1;
}
