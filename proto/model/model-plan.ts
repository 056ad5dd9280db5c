/** The tensors of a stage's model, by PyTorch name and in state_dict order. */

import type { ModelRecipe } from "../recipe.ts";
import { type BackbonePlan, type ConvNormPlan, convNorms, planBackbone } from "./backbone-plan.ts";

/** What a tensor does; decides how it is initialised, counted and updated. */
export type TensorRole =
  | "convolution"
  | "linear"
  | "classifier"
  | "bias"
  | "norm-weight"
  | "norm-bias"
  | "running-mean"
  | "running-variance";

export interface TensorSpec {
  /** As in PyTorch's state_dict, e.g. `backbone.layer1.0.bn1.running_mean`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: TensorRole;
}

export interface ModelPlan {
  readonly backbone: BackbonePlan;
  /** Every tensor but `num_batches_tracked`, which is one and the same number for all norms. */
  readonly tensors: readonly TensorSpec[];
  /** The tensors that the stage trains, in the same order: gradients are numbered by it. */
  readonly trained: readonly TensorSpec[];
}

/** Backbone and projection neck: fc0, bn0, ReLU, fc1, bn1. */
export function planPretrain(model: ModelRecipe): ModelPlan {
  const backbone = planBackbone(model);
  const hidden = model.neck.hidden ?? backbone.features;
  const tensors: TensorSpec[] = [
    ...convNorms(backbone).flatMap(convNormTensors),
    { name: "neck.fc0.weight", shape: [hidden, backbone.features], role: "linear" },
    ...normTensors("neck.bn0", hidden),
    { name: "neck.fc1.weight", shape: [model.neck.out, hidden], role: "linear" },
    ...normTensors("neck.bn1", model.neck.out),
  ];
  return { backbone, tensors, trained: tensors.filter(isParameter) };
}

/** Frozen backbone and a linear classifier over its average-pooled features. */
export function planLinear(model: ModelRecipe, classes: number): ModelPlan {
  const backbone = planBackbone(model);
  const head: TensorSpec[] = [
    { name: "head.fc.weight", shape: [classes, backbone.features], role: "classifier" },
    { name: "head.fc.bias", shape: [classes], role: "bias" },
  ];
  const tensors = [...convNorms(backbone).flatMap(convNormTensors), ...head];
  return { backbone, tensors, trained: head };
}

/** Whether a tensor is a weight or bias, trained or frozen, and not a running statistic. */
export function isParameter({ role }: TensorSpec): boolean {
  return role !== "running-mean" && role !== "running-variance";
}

export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function convNormTensors(plan: ConvNormPlan): TensorSpec[] {
  const shape = [plan.outputs, plan.inputs, plan.kernel, plan.kernel];
  return [
    { name: `${plan.convolution}.weight`, shape, role: "convolution" },
    ...normTensors(plan.norm, plan.outputs),
  ];
}

function normTensors(norm: string, channels: number): TensorSpec[] {
  const shape = [channels];
  return [
    { name: `${norm}.weight`, shape, role: "norm-weight" },
    { name: `${norm}.bias`, shape, role: "norm-bias" },
    { name: `${norm}.running_mean`, shape, role: "running-mean" },
    { name: `${norm}.running_var`, shape, role: "running-variance" },
  ];
}
