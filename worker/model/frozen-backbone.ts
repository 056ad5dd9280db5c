/**
 * The ResNet in eval mode: running statistics instead of the batch's, and nothing to differentiate.
 */

import type { BackbonePlan, ConvNormPlan } from "../../proto/model/backbone-plan.ts";
import type { Engine, Tensor } from "../engine/engine.ts";

export interface FrozenPass {
  readonly engine: Engine;
  readonly eps: number;
  /** Weights and running statistics, by state_dict name. */
  tensorOf(name: string): Tensor;
}

/** Images [N, 3, H, W] to average-pooled features [N, F], which the caller frees. */
export function inferFeatures(pass: FrozenPass, plan: BackbonePlan, images: Tensor): Tensor {
  const { engine } = pass;
  const advance = (x: Tensor, step: () => Tensor): Tensor => {
    const y = engine.scope(step);
    engine.release(x);
    return y;
  };

  let y = engine.scope(() => {
    const stem = inferLayer(pass, plan.stem, images, { relu: true });
    return plan.hasPool ? engine.maxPool(stem).y : stem;
  });
  for (const { body, downsample } of plan.blocks) {
    const input = y;
    y = advance(input, () => {
      const shortcut = downsample ? inferLayer(pass, downsample, input, { relu: false }) : input;
      return body.reduce((x, layer, position) => {
        const residual = position === body.length - 1 ? { residual: shortcut } : {};
        return inferLayer(pass, layer, x, { relu: true, ...residual });
      }, input);
    });
  }
  const last = y;
  return advance(last, () => engine.globalAveragePool(last));
}

/** A convolution, its norm with the running statistics, and what follows them. */
export function inferLayer(
  { engine, eps, tensorOf }: FrozenPass,
  {
    convolution,
    norm,
    stride,
    padding,
  }: Pick<ConvNormPlan, "convolution" | "norm" | "stride" | "padding">,
  x: Tensor,
  options: { readonly relu: boolean; readonly residual?: Tensor },
): Tensor {
  return engine.convolutionInference(
    x,
    tensorOf(`${convolution}.weight`),
    { stride, padding },
    {
      weight: tensorOf(`${norm}.weight`),
      bias: tensorOf(`${norm}.bias`),
      mean: tensorOf(`${norm}.running_mean`),
      variance: tensorOf(`${norm}.running_var`),
    },
    { eps, ...options },
  );
}
