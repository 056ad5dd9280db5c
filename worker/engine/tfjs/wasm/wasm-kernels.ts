/**
 * Kernels for the WebAssembly backend, made of the few operations that it runs fast.
 *
 * Fast (one thread with SIMD): conv2d forward and matMul without transposes, 30-38 GFLOP/s;
 * elementwise operations on equal shapes, 0.3 ns an element; a 1x1 depthwise convolution, which is
 * an affine map per channel in one pass. Slow, and so not used: matMul with a transpose and
 * conv2dTranspose (2 GFLOP/s), reductions over the leading axes (3 ns an element), comparisons and
 * `where` (4-60 ns an element), strided slices (15 ns an element).
 */

import type { Tensor4D } from "@tensorflow/tfjs-core";
import { POOL } from "../../shapes.ts";
import type { Raw, RawPooled, Tfjs, TfjsKernels } from "../kernels.ts";
import { batchNormInference, batchNormTrain } from "./batch-norm.ts";
import { columnSums } from "./channels.ts";
import { convolution, convolutionBackwardInput, convolutionBackwardWeight } from "./convolution.ts";
import type { WasmDevice } from "./device.ts";
import { hostSoftmaxCrossEntropy, hostUpdate } from "./host-kernels.ts";
import { maxPoolGradient } from "./max-pool.ts";

export function wasmKernels(device: WasmDevice): TfjsKernels {
  const { tf } = device;
  return {
    matMul: (a, b, { transposeA = false, transposeB = false } = {}) =>
      tf.matMul(transposeA ? tf.transpose(a) : a, transposeB ? tf.transpose(b) : b),
    oneHot: (columns, depth, value) => oneHot(tf, columns, depth, value),
    columnSums: (x) => tf.tensor1d(Float32Array.from(columnSums(device, x))),
    convolution: (x, filter, geometry) => convolution(tf, x, filter, geometry),
    convolutionBackwardInput: (dy, filter, xShape, geometry) =>
      convolutionBackwardInput(tf, dy, filter, xShape, geometry),
    convolutionBackwardWeight: (x, dy, filterShape, geometry) =>
      convolutionBackwardWeight(device, x, dy, filterShape, geometry),
    batchNormTrain: (inputs, options, reducer) => batchNormTrain(device, inputs, options, reducer),
    batchNormInference: (x, norm, options) => batchNormInference(device, x, norm, options),
    maxPool: (x) => maxPool(tf, x as Tensor4D),
    softmaxCrossEntropy: (logits, labels, scale) => {
      const { lossSum, dLogits } = hostSoftmaxCrossEntropy(read(logits), labels, scale);
      return { lossSum, dLogits: tf.tensor(dLogits, logits.shape) };
    },
    update: (weight, velocity, gradient, options) => {
      const [w, v] = [read(weight), read(velocity)];
      hostUpdate(w, v, read(gradient), options);
      return { weight: tf.tensor(w, weight.shape), velocity: tf.tensor(v, weight.shape) };
    },
  };
}

/** A copy: the values may be overwritten. */
function read(x: Raw): Float32Array {
  return x.dataSync<"float32">();
}

/** The backend's own can make integers only. */
function oneHot(tf: Tfjs, columns: Int32Array, depth: number, value: number): Raw {
  const values = new Float32Array(columns.length * depth);
  columns.forEach((column, row) => {
    values[row * depth + column] = value;
  });
  return tf.tensor2d(values, [columns.length, depth]);
}

function maxPool(tf: Tfjs, x: Tensor4D): RawPooled {
  const { window, stride, padding } = POOL;
  const y = tf.maxPool(x, window, stride, padding, "floor");
  const input = tf.clone(x);
  return {
    y,
    kept: [input],
    backward: (dy) => tf.tensor(maxPoolGradient(read(input), read(dy), x.shape), x.shape),
  };
}
