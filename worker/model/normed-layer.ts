/**
 * A weight without bias and the batch norm behind it: the brick that backbone and neck are built
 * of.
 *
 * Forward and backward run through a pass, which knows the weights and takes what comes out.
 * Whoever calls owns what goes in and what comes back; the tape between the two owns what its
 * backward needs.
 */

import type { ConvNormPlan } from "../../proto/model/backbone-plan.ts";
import type {
  BatchNormGradients,
  BatchNormSaved,
  BatchReducer,
  Engine,
  Moments,
  NormGradients,
  NormInput,
  Tensor,
} from "../engine/engine.ts";

export interface NormedLayer {
  /** Names of the weight and of the norm, e.g. `neck.fc0.weight` and `neck.bn0`. */
  readonly weight: string;
  readonly norm: string;
  apply(engine: Engine, x: Tensor, weight: Tensor): Tensor;
  backwardInput(engine: Engine, dy: Tensor, weight: Tensor, xShape: readonly number[]): Tensor;
  backwardWeight(engine: Engine, x: Tensor, dy: Tensor, weight: Tensor): Tensor;
}

export interface ForwardPass {
  readonly engine: Engine;
  readonly eps: number;
  readonly reducer: BatchReducer | undefined;
  weightOf(name: string): Tensor;
  /** Takes the batch statistics of the norm `name`. */
  keepMoments(name: string, moments: Moments): void;
}

export interface BackwardPass {
  readonly engine: Engine;
  readonly reducer: BatchReducer | undefined;
  weightOf(name: string): Tensor;
  /** Takes the gradient of the parameter `name`, and frees it. */
  deliver(name: string, gradient: Tensor): void;
}

export interface LayerInput {
  readonly layer: NormedLayer;
  /** Borrowed: freed by whoever made it. */
  readonly input: Tensor;
}

export interface LayerTape extends LayerInput {
  readonly saved: BatchNormSaved;
}

export function convNormLayer({ convolution, norm, stride, padding }: ConvNormPlan): NormedLayer {
  const geometry = { stride, padding };
  return {
    weight: `${convolution}.weight`,
    norm,
    apply: (engine, x, weight) => engine.convolution(x, weight, geometry),
    backwardInput: (engine, dy, weight, xShape) =>
      engine.convolutionBackwardInput(dy, weight, xShape, geometry),
    backwardWeight: (engine, x, dy, weight) =>
      engine.convolutionBackwardWeight(x, dy, weight.shape, geometry),
  };
}

export function linearNormLayer(linear: string, norm: string): NormedLayer {
  return {
    weight: `${linear}.weight`,
    norm,
    apply: (engine, x, weight) => engine.linear(x, weight),
    backwardInput: (engine, dy, weight) => engine.linearBackwardInput(dy, weight),
    backwardWeight: (engine, x, dy) => engine.linearBackwardWeight(x, dy),
  };
}

/**
 * A layer, to whose output the residual or the shortcut, another layer's output, is added before it
 * is rectified. The tape is of both layers.
 */
export function forwardLayer(
  pass: ForwardPass,
  layer: NormedLayer,
  input: Tensor,
  options: {
    readonly relu: boolean;
    readonly residual?: Tensor;
    readonly shortcut?: LayerInput;
  },
): { readonly y: Tensor; readonly tape: LayerTape } {
  const { engine, eps, reducer } = pass;
  const { shortcut, ...rest } = options;
  const own = normInput(pass, { layer, input });
  const added = shortcut && normInput(pass, shortcut);
  const { y, saved, moments, shortcutMoments } = engine.batchNormTrain(
    own,
    { eps, ...rest, ...(added && { shortcut: added }) },
    reducer,
  );
  engine.release(own.x, ...(added ? [added.x] : []));
  pass.keepMoments(layer.norm, moments);
  if (shortcut) pass.keepMoments(shortcut.layer.norm, shortcutMoments!);
  return { y, tape: { layer, input, saved } };
}

/** What the layer's weight makes of its input, which the norm is to be applied to. */
function normInput(pass: ForwardPass, { layer, input }: LayerInput): NormInput {
  return {
    x: layer.apply(pass.engine, input, pass.weightOf(layer.weight)),
    weight: pass.weightOf(`${layer.norm}.weight`),
    bias: pass.weightOf(`${layer.norm}.bias`),
  };
}

/** First half of a layer's backward; uses the tape up. The second is {@link backwardWeights}. */
export function backwardNorm(pass: BackwardPass, tape: LayerTape, dy: Tensor): BatchNormGradients {
  const gradients = pass.engine.batchNormBackward(dy, tape.saved, pass.reducer);
  pass.engine.release(...tape.saved.tensors);
  return gradients;
}

/** Delivers the layer's own gradients: norm bias, norm weight, weight. */
export function backwardWeights(
  pass: BackwardPass,
  { layer, input }: LayerInput,
  { dx, dWeight, dBias }: NormGradients,
): void {
  pass.deliver(`${layer.norm}.bias`, dBias);
  pass.deliver(`${layer.norm}.weight`, dWeight);
  const weight = pass.weightOf(layer.weight);
  pass.deliver(layer.weight, layer.backwardWeight(pass.engine, input, dx, weight));
}

/** Gradient with respect to the layer's input; uses `gradients.dx` up. */
export function backwardInput(
  pass: BackwardPass,
  { layer, input }: LayerInput,
  { dx }: NormGradients,
): Tensor {
  const weight = pass.weightOf(layer.weight);
  const dInput = layer.backwardInput(pass.engine, dx, weight, input.shape);
  pass.engine.release(dx);
  return dInput;
}

/** The whole backward of a layer without residual; uses the tape up. */
export function backwardLayer(pass: BackwardPass, tape: LayerTape, dy: Tensor): Tensor {
  const gradients = backwardNorm(pass, tape, dy);
  backwardWeights(pass, tape, gradients);
  return backwardInput(pass, tape, gradients);
}
