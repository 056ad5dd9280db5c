import type { FrozenNorm, Tensor } from "../engine.ts";
import { assertShape, sizeOf } from "../shapes.ts";
import type { Device } from "./device.ts";
import type { Layout } from "./layout.ts";
import type { Folded, Stored } from "./stored.ts";

/**
 * Weights and bias of one convolution that equals a convolution with a frozen norm after it:
 * w' = w scale, b' = bias - mean scale, with scale = weight / sqrt(variance + eps) of each output.
 * They are kept with the weight until one of the tensors changes.
 */
export function foldNorm(
  { store, layouts, reorders }: Device,
  weight: Stored,
  layout: Layout,
  norm: FrozenNorm,
  eps: number,
): Folded {
  const parts = [weight, ...[norm.weight, norm.bias, norm.mean, norm.variance].map(open)];
  const known = weight.folded;
  if (known && isCurrent(known, layout, parts, eps)) return known;
  store.forgetFolded(weight);

  const outputs = weight.shape[0]!;
  const size = sizeOf(weight.shape.slice(1));
  const [gamma, beta, mean, variance] = parts.slice(1).map((part) => store.floats(part));
  const bias = store.take(outputs * Float32Array.BYTES_PER_ELEMENT);
  const weights = store.take(layout.bytes);
  const plain = layouts.plain(weight.shape);
  const source = store.floats(weight);
  store.borrow(plain.bytes, (block) => {
    const [scaled, biases] = [block.floats(), bias.floats()];
    for (let o = 0; o < outputs; o++) {
      const scale = gamma![o]! / Math.sqrt(variance![o]! + eps);
      biases[o] = beta![o]! - mean![o]! * scale;
      for (let k = o * size; k < (o + 1) * size; k++) scaled[k] = source[k]! * scale;
    }
    reorders.between(plain, layout, weight.shape).run(block.address, weights.address);
  });
  const from = parts.map((part) => [part, part.version] as const);
  weight.folded = { from, eps, layout, weights, bias };
  return weight.folded;

  function open(tensor: Tensor): Stored {
    assertShape(tensor.shape, [weight.shape[0]!]);
    return store.open(tensor);
  }
}

function isCurrent(folded: Folded, layout: Layout, parts: readonly Stored[], eps: number): boolean {
  return (
    folded.layout === layout &&
    folded.eps === eps &&
    folded.from.every(([tensor, version], k) => tensor === parts[k] && tensor.version === version)
  );
}
