/** Running means and variances of a model's batch norms. */

import type { Moments } from "../engine/engine.ts";
import type { HostTensor, NamedTensors } from "./model-state.ts";

/**
 * The running statistics of one norm after one more batch, by tensor name.
 *
 * As torch.nn.SyncBatchNorm: running = (1 - momentum) running + momentum batch, where the variance
 * of the batch is unbiased, n / (n - 1) of what it was normalised with.
 */
export function updateStatistics(
  running: NamedTensors,
  norm: string,
  { mean, variance, count }: Moments,
  momentum: number,
): [string, HostTensor][] {
  const blend = (suffix: string, batch: Float32Array, scale: number): [string, HostTensor] => {
    const name = `${norm}.${suffix}`;
    const { shape, data } = running.get(name)!;
    const next = data.map((value, c) => (1 - momentum) * value + momentum * scale * batch[c]!);
    return [name, { shape, data: next }];
  };
  return [blend("running_mean", mean, 1), blend("running_var", variance, count / (count - 1))];
}
