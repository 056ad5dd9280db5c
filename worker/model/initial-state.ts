/**
 * The numbers that a model starts from.
 *
 * As mmpretrain starts its SimCLR: convolutions Kaiming normal over fan-out, the neck's linear layers
 * PyTorch's default, batch norms one and zero, and the last batch norm of every residual block zero
 * where the recipe says so. The classifier is Normal(0, 0.01) with bias zero.
 */

import {
  elementCount,
  type ModelPlan,
  planLinear,
  planPretrain,
  type TensorSpec,
} from "../../proto/model/model-plan.ts";
import type { ModelRecipe } from "../../proto/recipe.ts";
import { checkTensors, type HostTensor, type ModelState } from "./model-state.ts";
import { RandomStream } from "./random-stream.ts";

const CLASSIFIER_STD = 0.01;

/** Depends on the recipe and the seed only: every rank computes the same bits. */
export function initialPretrainState(model: ModelRecipe, seed: number): ModelState {
  const plan = planPretrain(model);
  return fill(plan, zeroedNorms(model, plan), seed);
}

/**
 * The classifier is drawn from the seed. So is the backbone, as {@link initialPretrainState} does, unless
 * it is taken from `pretrained`, a state of either stage.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when `pretrained` has another backbone
 */
export function initialLinearState(
  model: ModelRecipe,
  {
    classes,
    seed,
    pretrained,
  }: { readonly classes: number; readonly seed: number; readonly pretrained?: ModelState },
): ModelState {
  const plan = planLinear(model, classes);
  if (!pretrained) return fill(plan, zeroedNorms(model, plan), seed);

  const isBackbone = (name: string): boolean => name.startsWith("backbone.");
  const backbone = new Map([...pretrained.tensors].filter(([name]) => isBackbone(name)));
  const specs = plan.tensors.filter(({ name }) => isBackbone(name));
  checkTensors(backbone, specs, "pre-trained backbone");
  const tensors = plan.tensors.map((spec): [string, HostTensor] => [
    spec.name,
    backbone.get(spec.name) ?? { shape: spec.shape, data: initialValues(spec, seed) },
  ]);
  return { tensors: new Map(tensors), batchesTracked: pretrained.batchesTracked };
}

function fill(plan: ModelPlan, zeroed: ReadonlySet<string>, seed: number): ModelState {
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
