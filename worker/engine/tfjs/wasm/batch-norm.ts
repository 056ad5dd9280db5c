/**
 * Batch normalisation for the WebAssembly backend.
 *
 * Per-channel numbers are computed on the host in float64; the passes over the activations are
 * sums and affine maps. The forward keeps x - mean, whose squares it needs for a variance without
 * cancellation and which the backward then needs instead of x.
 */

import type { BatchReducer } from "../../engine.ts";
import type { Raw, RawNormGradients, RawNormOptions, RawNormTrained, Tfjs } from "../kernels.ts";
import { inputGradient, localSums, type NormState } from "../norm-gradient.ts";
import { affine, columnSums } from "./channels.ts";

export function batchNormTrain(
  tf: Tfjs,
  x: Raw,
  { weight, bias }: { readonly weight: Raw; readonly bias: Raw },
  { eps, relu, residual }: RawNormOptions,
  reducer: BatchReducer | undefined,
): RawNormTrained {
  const [w, b] = [weight.dataSync<"float32">(), bias.dataSync<"float32">()];
  const count = x.size / w.length;
  const mean = Float32Array.from(columnSums(tf, x), (sum) => sum / count);
  const centred = affine(
    tf,
    x,
    w.map(() => 1),
    mean.map((m) => -m),
  );
  const squares = columnSums(tf, tf.square(centred));
  const local = { mean, variance: Float32Array.from(squares, (sum) => sum / count), count };
  const moments = reducer?.moments(local) ?? local;

  const inverse_C = Float64Array.from(moments.variance, (v) => 1 / Math.sqrt(v + eps));
  const state: NormState = {
    scale_C: inverse_C.map((inverse, c) => inverse * w[c]!),
    inverse_C,
    shift_C: Float64Array.from(mean, (m, c) => m - moments.mean[c]!),
    count: moments.count,
  };
  const offset_C = state.scale_C.map((s, c) => b[c]! + s * state.shift_C[c]!);
  const y = finish(tf, affine(tf, centred, state.scale_C, offset_C), relu, residual);
  const mask = relu ? tf.clone(y) : undefined;
  return {
    y,
    moments,
    kept: mask ? [centred, mask] : [centred],
    backward: (dy, total) => {
      const incoming = mask ? tf.mul(dy, tf.step(mask)) : tf.clone(dy);
      const gradients = backward(tf, incoming, centred, state, total);
      return residual ? { ...gradients, dResidual: incoming } : gradients;
    },
  };
}

export function batchNormInference(
  tf: Tfjs,
  x: Raw,
  norm: Readonly<Record<"weight" | "bias" | "mean" | "variance", Raw>>,
  { eps, relu, residual }: RawNormOptions,
): Raw {
  const [weight, bias] = [norm.weight.dataSync(), norm.bias.dataSync()];
  const mean = norm.mean.dataSync();
  const scale = Float64Array.from(
    norm.variance.dataSync(),
    (v, c) => weight[c]! / Math.sqrt(v + eps),
  );
  const offset = scale.map((s, c) => bias[c]! - s * mean[c]!);
  return finish(tf, affine(tf, x, scale, offset), relu, residual);
}

function finish(tf: Tfjs, normalised: Raw, relu: boolean, residual: Raw | undefined): Raw {
  const y = residual ? tf.add(normalised, residual) : normalised;
  return relu ? tf.relu(y) : y;
}

function backward(
  tf: Tfjs,
  dy: Raw,
  centred: Raw,
  state: NormState,
  reducer: BatchReducer | undefined,
): RawNormGradients {
  const channels = state.scale_C.length;
  const sums = localSums(state, columnSums(tf, dy), columnSums(tf, tf.mul(dy, centred)));
  const [dBias, dWeight] = [sums.slice(0, channels), sums.slice(channels)];
  reducer?.sums(sums);
  const { slope_C, offset_C } = inputGradient(state, sums);
  const zero_C = new Float32Array(channels);
  return {
    dx: tf.add(affine(tf, dy, state.scale_C, offset_C), affine(tf, centred, slope_C, zero_C)),
    dWeight: tf.tensor1d(dWeight),
    dBias: tf.tensor1d(dBias),
  };
}
