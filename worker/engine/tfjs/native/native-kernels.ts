/**
 * Kernels for TensorFlow's native library, CPU or CUDA.
 *
 * TensorFlow's own gradient operations are called by name: they are much faster than the gradients
 * that TensorFlow.js composes of elementary operations.
 */

import type { Geometry, UpdateOptions } from "../../engine.ts";
import { POOL } from "../../shapes.ts";
import type { Raw, RawPooled, Tfjs, TfjsKernels } from "../kernels.ts";
import { batchNormInference, batchNormTrain } from "./batch-norm.ts";
import { type Attributes, type NodeBackend, runMany, runOne } from "./node-backend.ts";

export interface NativeDevice {
  readonly tf: Tfjs;
  readonly backend: NodeBackend;
}

const INT32 = { type: "int32" } as const;

export function nativeKernels(device: NativeDevice): TfjsKernels {
  const { tf, backend } = device;
  const sizes = (shape: readonly number[]): Raw => tf.tensor1d([...shape], "int32");
  return {
    matMul: (a, b, { transposeA = false, transposeB = false } = {}) =>
      runOne(backend, "MatMul", [a, b], { transpose_a: transposeA, transpose_b: transposeB }),
    oneHot: (columns, depth, value) =>
      tf.oneHot(tf.tensor1d(columns, "int32"), depth, value, 0, "float32"),
    columnSums: (x) => tf.sum(x, leadingAxes(x)),
    convolution: (x, filter, geometry) =>
      runOne(backend, "Conv2D", [x, filter], convolutionAttributes(geometry)),
    convolutionBackwardInput: (dy, filter, xShape, geometry) =>
      runOne(
        backend,
        "Conv2DBackpropInput",
        [sizes(xShape), filter, dy],
        convolutionAttributes(geometry),
      ),
    convolutionBackwardWeight: (x, dy, filterShape, geometry) =>
      runOne(
        backend,
        "Conv2DBackpropFilter",
        [x, sizes(filterShape), dy],
        convolutionAttributes(geometry),
      ),
    batchNormTrain: (inputs, options, reducer) => batchNormTrain(device, inputs, options, reducer),
    batchNormInference: (x, norm, options) => batchNormInference(device, x, norm, options),
    maxPool: (x) => maxPool(device, x),
    softmaxCrossEntropy: (logits, labels, scale) => {
      const [loss_N, dLogits] = runMany(
        backend,
        "SparseSoftmaxCrossEntropyWithLogits",
        [logits, tf.tensor1d(labels, "int32")],
        { Tlabels: INT32 },
        2,
      );
      const lossSum = loss_N!.dataSync<"float32">().reduce((sum, loss) => sum + loss, 0);
      return { lossSum, dLogits: tf.mul(dLogits!, scale) };
    },
    update: (weight, velocity, gradient, options) =>
      update(tf, weight, velocity, gradient, options),
  };
}

function leadingAxes(x: Raw): number[] {
  return x.shape.slice(0, -1).map((_, axis) => axis);
}

function convolutionAttributes({ stride, padding }: Geometry): Attributes {
  const attributes = { strides: [1, stride, stride, 1], data_format: "NHWC" };
  if (padding === 0) return { ...attributes, padding: "VALID" };
  const margins = [0, 0, padding, padding, padding, padding, 0, 0];
  return { ...attributes, padding: "EXPLICIT", explicit_paddings: margins };
}

/** The pool's gradient knows no explicit padding, so the image gets a margin that never wins. */
function maxPool({ tf, backend }: NativeDevice, x: Raw): RawPooled {
  const { window, stride, padding } = POOL;
  const margins: [number, number][] = [
    [0, 0],
    [padding, padding],
    [padding, padding],
    [0, 0],
  ];
  const attributes = {
    ksize: [1, window, window, 1],
    strides: [1, stride, stride, 1],
    padding: "VALID",
    data_format: "NHWC",
  };
  const lowest = tf.scalar(Number.NEGATIVE_INFINITY);
  const padded = runOne(backend, "PadV2", [x, tf.tensor2d(margins, [4, 2], "int32"), lowest], {
    Tpaddings: INT32,
  });
  const y = runOne(backend, "MaxPool", [padded], attributes);
  const output = tf.clone(y);
  return {
    y,
    kept: [padded, output],
    backward: (dy) => {
      const dPadded = runOne(backend, "MaxPoolGrad", [padded, output, dy], attributes);
      return tf.slice(dPadded, [0, padding, padding, 0], x.shape);
    },
  };
}

/** See {@link Engine.update}; nothing is read back, so that the device need not be waited for. */
function update(
  tf: Tfjs,
  weight: Raw,
  velocity: Raw,
  gradient: Raw,
  { lr, momentum, weightDecay, nesterov, gradientScale, lars }: UpdateOptions,
): { readonly weight: Raw; readonly velocity: Raw } {
  const g = tf.mul(gradient, gradientScale);
  let step: Raw = tf.scalar(lr);
  if (lars) {
    const [wNorm, gNorm] = [tf.norm(weight), tf.norm(g)];
    const denominator = tf.add(tf.add(gNorm, tf.mul(wNorm, weightDecay)), lars.eps);
    const ratio = tf.div(tf.mul(wNorm, lars.trustCoefficient * lr), denominator);
    step = tf.where(tf.logicalAnd(tf.greater(wNorm, 0), tf.greater(gNorm, 0)), ratio, step);
  }
  const d = tf.mul(tf.add(g, tf.mul(weight, weightDecay)), step);
  const v = tf.add(tf.mul(velocity, momentum), d);
  const change = nesterov ? tf.add(d, tf.mul(v, momentum)) : v;
  return { weight: tf.sub(weight, change), velocity: v };
}
