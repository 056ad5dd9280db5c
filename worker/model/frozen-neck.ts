/**
 * SimCLR's projection neck in eval mode. A linear layer is a 1x1 convolution of a map of one pixel,
 * so the backbone's operation with its frozen norm serves here, too.
 */

import type { ConvNormPlan } from "../../proto/model/backbone-plan.ts";
import type { Tensor } from "../engine/engine.ts";
import { type FrozenPass, inferLayer } from "./frozen-backbone.ts";

const FC0 = linearLayer("neck.fc0", "neck.bn0");
const FC1 = linearLayer("neck.fc1", "neck.bn1");

/**
 * Pooled features [N, F, 1, 1] to embeddings [N, D, 1, 1], not normalised, which the caller frees.
 * The pass gives the weights of the linear layers as [outputs, inputs, 1, 1].
 */
export function inferEmbeddings(pass: FrozenPass, features: Tensor): Tensor {
  return pass.engine.scope(() => {
    const hidden = inferLayer(pass, FC0, features, { relu: true });
    return inferLayer(pass, FC1, hidden, { relu: false });
  });
}

function linearLayer(
  convolution: string,
  norm: string,
): Pick<ConvNormPlan, "convolution" | "norm" | "stride" | "padding"> {
  return { convolution, norm, stride: 1, padding: 0 };
}
