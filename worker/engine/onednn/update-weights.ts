import type { Tensor, UpdateOptions } from "../engine.ts";
import { sizeOf } from "../shapes.ts";
import type { Device } from "./device.ts";
import { addressOf, hasFixedAddress } from "./library.ts";
import type { Address } from "./symbols.ts";

/** See {@link Engine.update}. Norms are summed in float64; the step is one pass over memory. */
export function updateWeights(
  { store, layouts, kernels, work }: Device,
  weight: Tensor,
  velocity: Tensor,
  gradient: Float32Array,
  options: UpdateOptions,
): void {
  const plain = layouts.plain(weight.shape);
  const [w, v] = [store.open(weight), store.open(velocity)];
  store.touch(w);
  store.touch(v);
  const [weights, velocities] = [store.read(w, plain), store.read(v, plain)];
  const count = sizeOf(weight.shape);
  const { lr, momentum, weightDecay: decay, nesterov, gradientScale, lars } = options;
  const operation = { name: `update [${weight.shape}]`, implementation: "avx2", flops: 0 };
  const norm = (values: Address): number => Math.sqrt(kernels.sumOfSquares(count, values));
  const step = (g: Address): void => {
    let adaptation = 1;
    if (lars) {
      const [weightNorm, gradientNorm] = [norm(weights), norm(g) * Math.abs(gradientScale)];
      const { trustCoefficient, eps } = lars;
      if (weightNorm > 0 && gradientNorm > 0) {
        adaptation = (trustCoefficient * weightNorm) / (gradientNorm + decay * weightNorm + eps);
      }
    }
    kernels.momentumStep(count, weights, velocities, g, {
      step: adaptation * lr,
      gradientScale,
      decay,
      momentum,
      nesterov,
    });
  };
  work.run(operation, () => {
    if (hasFixedAddress(gradient)) step(addressOf(gradient));
    else {
      store.borrow(gradient.byteLength, (block) => {
        block.floats(count).set(gradient);
        step(block.address);
      });
    }
  });
}
