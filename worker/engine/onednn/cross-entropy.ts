/**
 * Softmax cross entropy of logits [N, K], row by row in float64.
 * @param dLogits takes the gradient of `scale` times the sum of the losses
 * @returns the sum of the losses
 */
export function softmaxCrossEntropy(
  logits: Float32Array,
  labels: Int32Array,
  scale: number,
  dLogits: Float32Array,
): number {
  const classes = logits.length / labels.length;
  let lossSum = 0;
  for (const [row, label] of labels.entries()) {
    const at = row * classes;
    let peak = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < classes; k++) peak = Math.max(peak, logits[at + k]!);
    let total = 0;
    for (let k = 0; k < classes; k++) total += Math.exp(logits[at + k]! - peak);
    lossSum += peak + Math.log(total) - logits[at + label]!;
    for (let k = 0; k < classes; k++) {
      dLogits[at + k] = (scale * Math.exp(logits[at + k]! - peak)) / total;
    }
    dLogits[at + label]! -= scale;
  }
  return lossSum;
}
