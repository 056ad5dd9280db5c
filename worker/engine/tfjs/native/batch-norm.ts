/**
 * Batch normalisation with TensorFlow's fused operations where a worker's own statistics serve, and
 * with elementary ones around a gang's.
 */

import type { BatchReducer, Moments } from "../../engine.ts";
import { reduceMoments, reduceSums } from "../../joined-norms.ts";
import type {
  Raw,
  RawInputGradients,
  RawNormInput,
  RawNormOptions,
  RawNormTrained,
} from "../kernels.ts";
import { inputGradient, localSums, type NormState } from "../norm-gradient.ts";
import type { NativeDevice } from "./native-kernels.ts";
import { runMany, runOne } from "./node-backend.ts";

interface Affine {
  readonly weight: Raw;
  readonly bias: Raw;
}

/** What the two ways to take statistics have in common. */
interface Normalised {
  readonly values: readonly Raw[];
  readonly moments: readonly Moments[];
  readonly kept: readonly Raw[];
  readonly backward: (dy: Raw, reducer: BatchReducer | undefined) => readonly RawInputGradients[];
}

export function batchNormTrain(
  device: NativeDevice,
  inputs: readonly RawNormInput[],
  options: RawNormOptions,
  reducer: BatchReducer | undefined,
): RawNormTrained {
  const { tf, backend } = device;
  const { shape } = inputs[0]!.x;
  const images = inputs.map((input) => ({ ...input, x: as4d(device, input.x) }));
  const { values, moments, kept, backward } = reducer
    ? normaliseByGang(device, images, options.eps, reducer)
    : normaliseByWorker(device, images, options.eps);
  const sum = values.reduce((a, b) => tf.add(a, b));
  const y = finish(device, tf.reshape(sum, shape), options);
  const mask = options.relu ? tf.clone(y) : undefined;
  return {
    y,
    moments,
    kept: mask ? [...kept, mask] : kept,
    backward: (dy, total) => {
      const incoming = mask ? runOne(backend, "ReluGrad", [dy, mask], {}) : tf.clone(dy);
      const gradients = backward(as4d(device, incoming), total).map(({ dx, ...rest }) => ({
        dx: tf.reshape(dx, shape),
        ...rest,
      }));
      return { inputs: gradients, ...(options.residual && { dResidual: incoming }) };
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
  device: NativeDevice,
  inputs: readonly RawNormInput[],
  eps: number,
): Normalised {
  const norms = inputs.map((input) => fusedNorm(device, input, eps));
  return {
    values: norms.map(({ value }) => value),
    moments: norms.map(({ moments }) => moments),
    kept: norms.flatMap(({ kept }) => kept),
    backward: (dy) => norms.map(({ backward }) => backward(dy)),
  };
}

interface FusedNorm {
  readonly value: Raw;
  readonly moments: Moments;
  readonly kept: readonly Raw[];
  readonly backward: (dy: Raw) => RawInputGradients;
}

function fusedNorm(
  { tf, backend }: NativeDevice,
  { x, weight, bias }: RawNormInput,
  eps: number,
): FusedNorm {
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
      const given = [dy, input, scale, ...reserved];
      const [dx, dWeight, dBias] = runMany(backend, "FusedBatchNormGradV3", given, attributes, 5);
      return { dx: dx!, dWeight: dWeight!, dBias: dBias! };
    },
  };
}

/** What the backward over a gang reads of one input. */
interface GangInput {
  readonly input: Raw;
  readonly mean: Raw;
  readonly state: NormState;
}

function normaliseByGang(
  device: NativeDevice,
  inputs: readonly RawNormInput[],
  eps: number,
  reducer: BatchReducer,
): Normalised {
  const { tf } = device;
  const own = inputs.map(({ x }) => momentsOf(device, x));
  const moments = reduceMoments(own, reducer);
  const gang = inputs.map(({ x, weight }, k): GangInput => {
    const { mean, variance, count } = moments[k]!;
    const scale = weight.dataSync();
    const inverse_C = Float64Array.from(variance, (v) => 1 / Math.sqrt(v + eps));
    const state: NormState = {
      scale_C: inverse_C.map((inverse, c) => inverse * scale[c]!),
      inverse_C,
      shift_C: new Float64Array(inverse_C.length),
      count,
    };
    return { input: tf.clone(x), mean: tf.tensor1d(mean), state };
  });
  return {
    values: inputs.map((input, k) => {
      const statistics = [gang[k]!.mean, tf.tensor1d(moments[k]!.variance)] as const;
      return normaliseWith(device, input.x, input, eps, statistics);
    }),
    moments,
    kept: gang.flatMap(({ input, mean }) => [input, mean]),
    backward: (dy, total) => gangGradients(device, dy, gang, total),
  };
}

function momentsOf({ tf }: NativeDevice, x: Raw): Moments {
  const mean = tf.mean(x, [0, 1, 2]);
  const variance = tf.mean(tf.squaredDifference(x, mean), [0, 1, 2]);
  return {
    mean: mean.dataSync<"float32">(),
    variance: variance.dataSync<"float32">(),
    count: x.size / mean.size,
  };
}

function gangGradients(
  { tf }: NativeDevice,
  dy: Raw,
  inputs: readonly GangInput[],
  reducer: BatchReducer | undefined,
): readonly RawInputGradients[] {
  const sumDy = tf.sum(dy, [0, 1, 2]);
  const local = inputs.map(({ input, mean, state }) => {
    const centred = tf.sub(input, mean);
    const both = tf.concat([sumDy, tf.sum(tf.mul(dy, centred), [0, 1, 2])]);
    const raw = both.dataSync<"float32">();
    const channels = raw.length / 2;
    const sums = localSums(state, raw.subarray(0, channels), raw.subarray(channels));
    return { centred, sums };
  });
  const own = local.map(({ sums }) => sums);
  const total = reduceSums(own, reducer);
  const row = (values: Float64Array): Raw => tf.tensor1d(Float32Array.from(values));
  return inputs.map(({ state }, k) => {
    const channels = state.scale_C.length;
    const { slope_C, offset_C } = inputGradient(state, total[k]!);
    const fromDy = tf.add(tf.mul(dy, row(state.scale_C)), row(offset_C));
    return {
      dx: tf.add(fromDy, tf.mul(local[k]!.centred, row(slope_C))),
      dWeight: tf.tensor1d(own[k]!.slice(channels)),
      dBias: tf.tensor1d(own[k]!.slice(0, channels)),
    };
  });
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
