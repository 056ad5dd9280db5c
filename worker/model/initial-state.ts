/**
 * The numbers that a model starts from.
 *
 * As mmpretrain starts its SimCLR: convolutions Kaiming normal over fan-out, the neck's linear
 * layers PyTorch's default, batch norms one and zero, and the last batch norm of every residual
 * block zero where the recipe says so. The classifier is Normal(0, 0.01) with bias zero.
 */

import assert from "node:assert/strict";
import {
  elementCount,
  type ModelPlan,
  planLinear,
  planPretrain,
  type TensorSpec,
} from "../../proto/model/model-plan.ts";
import type { ModelRecipe, StageName } from "../../proto/recipe.ts";
import type { HostTensor, ModelState } from "./model-state.ts";
import { RandomStream } from "./random-stream.ts";

const CLASSIFIER_STD = 0.01;

/**
 * Depends on its arguments only: every rank computes the same bits, and the backbone of a linear
 * stage is that of the pretrain stage. The arrays are the caller's to overwrite.
 *
 * @param classes of the linear stage
 */
export function initialState(
  model: ModelRecipe,
  stage: StageName,
  seed: number,
  classes?: number,
): ModelState {
  if (stage === "pretrain") return fill(model, planPretrain(model), seed);
  assert.ok(classes, "a linear stage has classes");
  return fill(model, planLinear(model, classes), seed);
}

/** Zeros, for a state that is about to be overwritten. */
export function blankState(plan: ModelPlan): ModelState {
  const tensors = plan.tensors.map(({ name, shape }): [string, HostTensor] => [
    name,
    { shape, data: new Float32Array(elementCount(shape)) },
  ]);
  return { tensors: new Map(tensors), batchesTracked: 0 };
}

function fill(model: ModelRecipe, plan: ModelPlan, seed: number): ModelState {
  const zeroed = zeroedNorms(model, plan);
  const tensors = plan.tensors.map((spec): [string, HostTensor] => {
    const data = zeroed.has(spec.name)
      ? new Float32Array(elementCount(spec.shape))
      : initialValues(spec, seed);
    return [spec.name, { shape: spec.shape, data }];
  });
  return { tensors: new Map(tensors), batchesTracked: 0 };
}

function zeroedNorms(model: ModelRecipe, { backbone }: ModelPlan): ReadonlySet<string> {
  if (!model.zeroInitResidual) return new Set();
  return new Set(backbone.blocks.map(({ body }) => `${body.at(-1)!.norm}.weight`));
}

function initialValues({ name, shape, role }: TensorSpec, seed: number): Float32Array {
  const values = new Float32Array(elementCount(shape));
  const random = new RandomStream(seed, name);
  switch (role) {
    case "convolution": {
      const [outputs, , height, width] = shape as [number, number, number, number];
      const std = Math.sqrt(2 / (outputs * height * width));
      return values.map(() => std * random.normal());
    }
    case "linear": {
      const bound = 1 / Math.sqrt(shape[1]!);
      return values.map(() => bound * (2 * random.uniform() - 1));
    }
    case "classifier":
      return values.map(() => CLASSIFIER_STD * random.normal());
    case "norm-weight":
    case "running-variance":
      return values.fill(1);
    case "norm-bias":
    case "running-mean":
    case "bias":
      return values;
  }
}
