/**
 * Batch normalisation with TensorFlow's fused operations where a worker's own statistics serve, and
 * with elementary ones around a gang's.
 */

import type { BatchReducer } from "../../engine.ts";
import type { Raw, RawNormGradients, RawNormOptions, RawNormTrained } from "../kernels.ts";
import { inputGradient, localSums, type NormState } from "../norm-gradient.ts";
import type { NativeDevice } from "./native-kernels.ts";
import { runMany, runOne } from "./node-backend.ts";

interface Affine {
  readonly weight: Raw;
  readonly bias: Raw;
}

type FusedGradients = Omit<RawNormGradients, "dResidual">;

/** What the two ways to take statistics have in common. */
interface Normalised {
  readonly value: Raw;
  readonly moments: RawNormTrained["moments"];
  readonly kept: readonly Raw[];
  readonly backward: (dy: Raw, reducer: BatchReducer | undefined) => FusedGradients;
}

export function batchNormTrain(
  device: NativeDevice,
  x: Raw,
  affine: Affine,
  options: RawNormOptions,
  reducer: BatchReducer | undefined,
): RawNormTrained {
  const { tf, backend } = device;
  const x_PC = as4d(device, x);
  const { value, moments, kept, backward } = reducer
    ? normaliseByGang(device, x_PC, affine, options.eps, reducer)
    : normaliseByWorker(device, x_PC, affine, options.eps);
  const y = finish(device, tf.reshape(value, x.shape), options);
  const mask = options.relu ? tf.clone(y) : undefined;
  return {
    y,
    moments,
    kept: mask ? [...kept, mask] : kept,
    backward: (dy, total) => {
      const incoming = mask ? runOne(backend, "ReluGrad", [dy, mask], {}) : tf.clone(dy);
      const { dx, dWeight, dBias } = backward(as4d(device, incoming), total);
      const gradients = { dx: tf.reshape(dx, x.shape), dWeight, dBias };
      return options.residual ? { ...gradients, dResidual: incoming } : gradients;
    },
  };
}

export function batchNormInference(
  device: NativeDevice,
  x: Raw,
  { weight, bias, mean, variance }: Affine & { readonly mean: Raw; readonly variance: Raw },
  options: RawNormOptions,
): Raw {
  const value = normaliseWith(device, as4d(device, x), { weight, bias }, options.eps, [
    mean,
    variance,
  ]);
  return finish(device, device.tf.reshape(value, x.shape), options);
}

function normaliseByWorker(
  { tf, backend }: NativeDevice,
  x: Raw,
  { weight, bias }: Affine,
  eps: number,
): Normalised {
  const scale = tf.clone(weight);
  const input = tf.clone(x);
  const attributes = { U: { type: "float" }, epsilon: { float: eps }, is_training: true } as const;
  const none = tf.tensor1d([], "float32");
  const [value, mean, unbiased, ...reserved] = runMany(
    backend,
    "FusedBatchNormV3",
    [x, weight, bias, none, none],
    attributes,
    6,
  );
  const count = x.size / weight.size;
  const bias2 = count > 1 ? (count - 1) / count : 1;
  return {
    value: value!,
    moments: {
      mean: mean!.dataSync<"float32">(),
      variance: unbiased!.dataSync<"float32">().map((v) => v * bias2),
      count,
    },
    kept: [input, scale, ...reserved],
    backward: (dy) => {
      const inputs = [dy, input, scale, ...reserved];
      const [dx, dWeight, dBias] = runMany(backend, "FusedBatchNormGradV3", inputs, attributes, 5);
      return { dx: dx!, dWeight: dWeight!, dBias: dBias! };
    },
  };
}

function normaliseByGang(
  device: NativeDevice,
  x: Raw,
  affine: Affine,
  eps: number,
  reducer: BatchReducer,
): Normalised {
  const { tf } = device;
  const count = x.size / affine.weight.size;
  const ownMean = tf.mean(x, [0, 1, 2]);
  const ownVariance = tf.mean(tf.squaredDifference(x, ownMean), [0, 1, 2]);
  const moments = reducer.moments({
    mean: ownMean.dataSync<"float32">(),
    variance: ownVariance.dataSync<"float32">(),
    count,
  });
  const mean = tf.tensor1d(moments.mean);
  const value = normaliseWith(device, x, affine, eps, [mean, tf.tensor1d(moments.variance)]);
  const weight = affine.weight.dataSync();
  const inverse_C = Float64Array.from(moments.variance, (v) => 1 / Math.sqrt(v + eps));
  const state: NormState = {
    scale_C: inverse_C.map((inverse, c) => inverse * weight[c]!),
    inverse_C,
    shift_C: new Float64Array(inverse_C.length),
    count: moments.count,
  };
  const input = tf.clone(x);
  return {
    value,
    moments,
    kept: [input, mean],
    backward: (dy, total) => gangGradients(device, dy, tf.sub(input, mean), state, total),
  };
}

function gangGradients(
  { tf }: NativeDevice,
  dy: Raw,
  centred: Raw,
  state: NormState,
  reducer: BatchReducer | undefined,
): FusedGradients {
  const channels = state.scale_C.length;
  const both = tf.concat([tf.sum(dy, [0, 1, 2]), tf.sum(tf.mul(dy, centred), [0, 1, 2])]);
  const raw = both.dataSync<"float32">();
  const sums = localSums(state, raw.subarray(0, channels), raw.subarray(channels));
  const [dBias, dWeight] = [sums.slice(0, channels), sums.slice(channels)];
  reducer?.sums(sums);
  const { slope_C, offset_C } = inputGradient(state, sums);
  const row = (values: Float64Array): Raw => tf.tensor1d(Float32Array.from(values));
  const fromDy = tf.add(tf.mul(dy, row(state.scale_C)), row(offset_C));
  return {
    dx: tf.add(fromDy, tf.mul(centred, row(slope_C))),
    dWeight: tf.tensor1d(dWeight),
    dBias: tf.tensor1d(dBias),
  };
}

function normaliseWith(
  { backend }: NativeDevice,
  x: Raw,
  { weight, bias }: Affine,
  eps: number,
  statistics: readonly [mean: Raw, variance: Raw],
): Raw {
  const attributes = { U: { type: "float" }, epsilon: { float: eps }, is_training: false } as const;
  const inputs = [x, weight, bias, ...statistics];
  return runMany(backend, "FusedBatchNormV3", inputs, attributes, 6)[0]!;
}

function finish({ tf }: NativeDevice, value: Raw, { relu, residual }: RawNormOptions): Raw {
  const y = residual ? tf.add(value, residual) : value;
  return relu ? tf.relu(y) : y;
}

/** [N,C] as an image of one pixel, which is all that the fused operations take. */
function as4d({ tf }: NativeDevice, x: Raw): Raw {
  if (x.shape.length === 4) return x;
  const [images, channels] = x.shape as [number, number];
  return tf.reshape(x, [images, 1, 1, channels]);
}
