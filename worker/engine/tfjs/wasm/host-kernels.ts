/** Work on small arrays that is best done in JavaScript, in float64. */

import type { UpdateOptions } from "../../engine.ts";

/** See {@link Engine.softmaxCrossEntropy}. Overwrites `logits_NK` by the gradient. */
export function hostSoftmaxCrossEntropy(
  logits_NK: Float32Array,
  labels_N: Int32Array,
  scale: number,
): { readonly lossSum: number; readonly dLogits: Float32Array } {
  const classes = logits_NK.length / labels_N.length;
  let lossSum = 0;
  for (let n = 0; n < labels_N.length; n++) {
    const row = logits_NK.subarray(n * classes, (n + 1) * classes);
    const label = labels_N[n]!;
    let peak = Number.NEGATIVE_INFINITY;
    for (const logit of row) peak = Math.max(peak, logit);
    let total = 0;
    for (const logit of row) total += Math.exp(logit - peak);
    const logSumExp = peak + Math.log(total);
    lossSum += logSumExp - row[label]!;
    for (let k = 0; k < classes; k++) {
      const probability = Math.exp(row[k]! - logSumExp);
      row[k] = scale * (k === label ? probability - 1 : probability);
    }
  }
  return { lossSum, dLogits: logits_NK };
}

/** See {@link Engine.update}. Overwrites `weight` and `velocity`. */
export function hostUpdate(
  weight: Float32Array,
  velocity: Float32Array,
  gradient: Float32Array,
  { lr, momentum, weightDecay, nesterov, gradientScale, lars }: UpdateOptions,
): void {
  let local = 1;
  if (lars) {
    const wNorm = norm(weight);
    const gNorm = norm(gradient) * Math.abs(gradientScale);
    if (wNorm > 0 && gNorm > 0)
      local = (lars.trustCoefficient * wNorm) / (gNorm + weightDecay * wNorm + lars.eps);
  }
  const step = local * lr;
  for (let k = 0; k < weight.length; k++) {
    const w = weight[k]!;
    const d = step * (gradientScale * gradient[k]! + weightDecay * w);
    const v = momentum * velocity[k]! + d;
    velocity[k] = v;
    weight[k] = w - (nesterov ? d + momentum * v : v);
  }
}

function norm(values: Float32Array): number {
  let sum = 0;
  for (let k = 0; k < values.length; k++) sum += values[k]! * values[k]!;
  return Math.sqrt(sum);
}
