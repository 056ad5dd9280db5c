/**
 * Batch normalisation for the WebAssembly backend.
 *
 * Per-channel numbers are computed on the host in float64; the passes over the activations are sums
 * and affine maps. Sums of float32 values and of their squares are so exact in float64 that one
 * pass gives the variance: the cancellation in E[x^2] - E[x]^2 stays below float32's rounding of x.
 */

import type { BatchReducer, Moments } from "../../engine.ts";
import { reduceMoments, reduceSums } from "../../joined-norms.ts";
import type {
  Raw,
  RawInputGradients,
  RawNormInput,
  RawNormOptions,
  RawNormTrained,
  Tfjs,
} from "../kernels.ts";
import { inputGradient, localSums, type NormState } from "../norm-gradient.ts";
import { affine, columnProducts, columnSums } from "./channels.ts";
import type { WasmDevice } from "./device.ts";

export function batchNormTrain(
  device: WasmDevice,
  inputs: readonly RawNormInput[],
  { eps, relu, residual }: RawNormOptions,
  reducer: BatchReducer | undefined,
): RawNormTrained {
  const { tf } = device;
  const own = inputs.map(({ x }) => momentsOf(device, x));
  const moments = reduceMoments(own, reducer);
  const normalised = inputs.map((input, k) => normalise(tf, input, moments[k]!, eps));
  const y = finish(
    tf,
    normalised.map((each) => each.value).reduce((a, b) => tf.add(a, b)),
    relu,
    residual,
  );
  const mask = relu ? tf.clone(y) : undefined;
  return {
    y,
    moments,
    kept: [...normalised.map(({ kept }) => kept), ...(mask ? [mask] : [])],
    backward: (dy, total) => {
      const incoming = mask ? tf.mul(dy, tf.step(mask)) : tf.clone(dy);
      const gradients = backward(device, incoming, normalised, total);
      return { inputs: gradients, ...(residual && { dResidual: incoming }) };
    },
  };
}

/** One input with its norm, and what the backward reads of it. */
interface Normalised {
  readonly value: Raw;
  readonly kept: Raw;
  readonly state: NormState;
}

function momentsOf(device: WasmDevice, x: Raw): Moments {
  const count = x.size / x.shape.at(-1)!;
  const { sum_C, product_C } = columnProducts(device, x, x);
  return {
    mean: Float32Array.from(sum_C, (sum) => sum / count),
    variance: Float32Array.from(product_C, (squares, c) =>
      Math.max(0, squares / count - (sum_C[c]! / count) ** 2),
    ),
    count,
  };
}

function normalise(
  tf: Tfjs,
  { x, weight, bias }: RawNormInput,
  moments: Moments,
  eps: number,
): Normalised {
  const [w, b] = [weight.dataSync<"float32">(), bias.dataSync<"float32">()];
  const inverse_C = Float64Array.from(moments.variance, (v) => 1 / Math.sqrt(v + eps));
  const state: NormState = {
    scale_C: inverse_C.map((inverse, c) => inverse * w[c]!),
    inverse_C,
    shift_C: Float64Array.from(moments.mean, (mean) => -mean),
    count: moments.count,
  };
  const offset_C = state.scale_C.map((s, c) => b[c]! + s * state.shift_C[c]!);
  return { value: affine(tf, x, state.scale_C, offset_C), kept: tf.clone(x), state };
}

export function batchNormInference(
  device: WasmDevice,
  x: Raw,
  norm: Readonly<Record<"weight" | "bias" | "mean" | "variance", Raw>>,
  { eps, relu, residual }: RawNormOptions,
): Raw {
  const [weight, bias] = [norm.weight.dataSync(), norm.bias.dataSync()];
  const mean = norm.mean.dataSync();
  const scale_C = Float64Array.from(
    norm.variance.dataSync(),
    (v, c) => weight[c]! / Math.sqrt(v + eps),
  );
  // Zero, or NaN where x has a NaN; see affine().
  const marks_C = columnSums(device, x).map((sum) => 0 * sum);
  const offset_C = scale_C.map((s, c) => bias[c]! - s * mean[c]! + marks_C[c]!);
  return finish(device.tf, affine(device.tf, x, scale_C, offset_C), relu, residual);
}

function finish(tf: Tfjs, normalised: Raw, relu: boolean, residual: Raw | undefined): Raw {
  const y = residual ? tf.add(normalised, residual) : normalised;
  return relu ? tf.relu(y) : y;
}

function backward(
  device: WasmDevice,
  dy: Raw,
  inputs: readonly Normalised[],
  reducer: BatchReducer | undefined,
): readonly RawInputGradients[] {
  const { tf } = device;
  const own = inputs.map(({ kept, state }) => {
    const { sum_C, product_C } = columnProducts(device, dy, kept);
    return localSums(state, sum_C, product_C);
  });
  const sums = reduceSums(own, reducer);
  return inputs.map(({ kept, state }, k) => {
    const channels = state.scale_C.length;
    const { slope_C, offset_C } = inputGradient(state, sums[k]!);
    const zero_C = new Float32Array(channels);
    return {
      dx: tf.add(affine(tf, dy, state.scale_C, offset_C), affine(tf, kept, slope_C, zero_C)),
      dWeight: tf.tensor1d(own[k]!.slice(channels)),
      dBias: tf.tensor1d(own[k]!.slice(0, channels)),
    };
  });
}
