/**
 * Batch normalisation for the WebAssembly backend.
 *
 * Per-channel numbers are computed on the host in float64; the passes over the activations are sums
 * and affine maps. Sums of float32 values and of their squares are so exact in float64 that one
 * pass gives the variance: the cancellation in E[x^2] - E[x]^2 stays below float32's rounding of x.
 */

import type { BatchReducer } from "../../engine.ts";
import type { Raw, RawNormGradients, RawNormOptions, RawNormTrained, Tfjs } from "../kernels.ts";
import { inputGradient, localSums, type NormState } from "../norm-gradient.ts";
import { affine, columnProducts, columnSums } from "./channels.ts";
import type { WasmDevice } from "./device.ts";

export function batchNormTrain(
  device: WasmDevice,
  x: Raw,
  { weight, bias }: { readonly weight: Raw; readonly bias: Raw },
  { eps, relu, residual }: RawNormOptions,
  reducer: BatchReducer | undefined,
): RawNormTrained {
  const { tf } = device;
  const [w, b] = [weight.dataSync<"float32">(), bias.dataSync<"float32">()];
  const count = x.size / w.length;
  const { sum_C, product_C } = columnProducts(device, x, x);
  const local = {
    mean: Float32Array.from(sum_C, (sum) => sum / count),
    variance: Float32Array.from(product_C, (squares, c) =>
      Math.max(0, squares / count - (sum_C[c]! / count) ** 2),
    ),
    count,
  };
  const moments = reducer?.moments(local) ?? local;
  const inverse_C = Float64Array.from(moments.variance, (v) => 1 / Math.sqrt(v + eps));
  const state: NormState = {
    scale_C: inverse_C.map((inverse, c) => inverse * w[c]!),
    inverse_C,
    shift_C: Float64Array.from(moments.mean, (mean) => -mean),
    count: moments.count,
  };
  const offset_C = state.scale_C.map((s, c) => b[c]! + s * state.shift_C[c]!);
  const y = finish(tf, affine(tf, x, state.scale_C, offset_C), relu, residual);
  const input = tf.clone(x);
  const mask = relu ? tf.clone(y) : undefined;
  return {
    y,
    moments,
    kept: mask ? [input, mask] : [input],
    backward: (dy, total) => {
      const incoming = mask ? tf.mul(dy, tf.step(mask)) : tf.clone(dy);
      const gradients = backward(device, incoming, input, state, total);
      return residual ? { ...gradients, dResidual: incoming } : gradients;
    },
  };
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
  x: Raw,
  state: NormState,
  reducer: BatchReducer | undefined,
): RawNormGradients {
  const { tf } = device;
  const channels = state.scale_C.length;
  const { sum_C, product_C } = columnProducts(device, dy, x);
  const sums = localSums(state, sum_C, product_C);
  const [dBias, dWeight] = [sums.slice(0, channels), sums.slice(channels)];
  reducer?.sums(sums);
  const { slope_C, offset_C } = inputGradient(state, sums);
  const zero_C = new Float32Array(channels);
  return {
    dx: tf.add(affine(tf, dy, state.scale_C, offset_C), affine(tf, x, slope_C, zero_C)),
    dWeight: tf.tensor1d(dWeight),
    dBias: tf.tensor1d(dBias),
  };
}
