/**
 * The engine that the others are compared with: plain loops in float64, written for clarity.
 *
 * Every operation follows its definition in `worker/engine/engine.ts` and nothing else. Only where
 * the interface itself hands out float32 (moments, log-sum-exps, downloads) is anything rounded.
 */

import assert from "node:assert/strict";
import type {
  BatchNormGradients,
  BatchNormOptions,
  BatchNormSaved,
  BatchNormTrained,
  BatchNormTrainOptions,
  BatchReducer,
  ContrastiveOptions,
  ContrastiveRows,
  Engine,
  FrozenNorm,
  Geometry,
  NormInput,
  PoolSaved,
  Tensor,
  UpdateOptions,
} from "../../worker/engine/engine.ts";
import { gradientsOf, joined, trainedOf } from "../../worker/engine/joined-norms.ts";
import { ScopeTracker } from "../../worker/engine/scope-tracker.ts";
import {
  type Affine,
  combine,
  copyOf,
  type NormState,
  normalised,
  normGradients,
  statisticsOf,
} from "./reference-batch-norm.ts";
import {
  channelIndex,
  channelSums,
  forEachPoolInput,
  forEachProduct,
  logSumExp,
  outputShape,
  pooledShape,
  product,
  sizeOf,
  stepWeights,
  transposed,
  Values,
} from "./reference-kernels.ts";

export class ReferenceEngine implements Engine {
  readonly name = "reference";
  readonly device = "JavaScript, float64";
  readonly #tensors = new ScopeTracker<Values>(() => {});

  scope<T>(body: () => T): T {
    return this.#tensors.run(body);
  }

  release(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#tensors.release(tensor);
  }

  memory(): { readonly tensors: number; readonly bytes: number } {
    const live = [...this.#tensors];
    return { tensors: live.length, bytes: live.reduce((sum, t) => sum + t.data.byteLength, 0) };
  }

  close(): void {
    this.#tensors.releaseAll();
  }

  upload(data: Float32Array, shape: readonly number[]): Tensor {
    return this.#make(shape, Float64Array.from(data));
  }

  /** As {@link upload}, and {@link downloadExact} as {@link download}, without rounding. */
  uploadExact(data: Float64Array, shape: readonly number[]): Tensor {
    return this.#make(shape, data.slice());
  }

  uploadImages(
    pixels_NCHW: Uint8Array,
    shape: readonly number[],
    normalise: { readonly mean: readonly number[]; readonly std: readonly number[] },
  ): Tensor {
    const { mean, std } = normalise;
    const channel = channelIndex(shape);
    return this.#make(
      shape,
      Float64Array.from(pixels_NCHW, (pixel, k) => (pixel - mean[channel(k)]!) / std[channel(k)]!),
    );
  }

  download(tensor: Tensor, target?: Float32Array): Float32Array {
    const { data } = this.#read(tensor);
    if (!target) return Float32Array.from(data);
    assert.equal(target.length, data.length);
    target.set(data);
    return target;
  }

  downloadExact(tensor: Tensor): Float64Array {
    return this.#read(tensor).data.slice();
  }

  assign(tensor: Tensor, data: Float32Array): void {
    const values = this.#read(tensor);
    assert.equal(data.length, values.data.length);
    values.data.set(data);
  }

  convolution(x: Tensor, weight: Tensor, geometry: Geometry): Tensor {
    const [a, w] = [this.#read(x).data, this.#read(weight).data];
    const y = this.#make(outputShape(x.shape, weight.shape, geometry));
    forEachProduct(x.shape, weight.shape, geometry, (xi, wi, yi) => {
      y.data[yi]! += a[xi]! * w[wi]!;
    });
    return y;
  }

  convolutionBackwardInput(
    dy: Tensor,
    weight: Tensor,
    xShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assert.deepEqual(dy.shape, outputShape(xShape, weight.shape, geometry));
    const [d, w] = [this.#read(dy).data, this.#read(weight).data];
    const dx = this.#make(xShape);
    forEachProduct(xShape, weight.shape, geometry, (xi, wi, yi) => {
      dx.data[xi]! += d[yi]! * w[wi]!;
    });
    return dx;
  }

  convolutionBackwardWeight(
    x: Tensor,
    dy: Tensor,
    weightShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assert.deepEqual(dy.shape, outputShape(x.shape, weightShape, geometry));
    const [a, d] = [this.#read(x).data, this.#read(dy).data];
    const dWeight = this.#make(weightShape);
    forEachProduct(x.shape, weightShape, geometry, (xi, wi, yi) => {
      dWeight.data[wi]! += a[xi]! * d[yi]!;
    });
    return dWeight;
  }

  batchNormTrain(
    input: NormInput,
    options: BatchNormTrainOptions,
    reducer?: BatchReducer,
  ): BatchNormTrained {
    const given = joined(input, options.shortcut).map(({ x, ...affine }) => ({
      x: this.#read(x),
      ...this.#readAffine(affine),
    }));
    const xs = given.map(({ x }) => x);
    const statistics = statisticsOf(xs, options.eps, reducer);
    const inputs = given.map(({ x, weight, bias }, k) => {
      const xHat = this.#make(x.shape, normalised(x, statistics[k]!));
      return { xHat, weight, bias, deviation_C: statistics[k]!.deviation_C };
    });
    const residual = options.residual && this.#read(options.residual);
    const y = this.#make(input.x.shape, combine(inputs, { relu: options.relu, residual }));
    const moments = statistics.map((each) => each.moments);
    const saved: NormState = {
      tensors: inputs.map(({ xHat }) => xHat),
      inputs: inputs.map(({ weight, ...rest }) => ({ ...rest, weight: copyOf(weight) })),
      y: copyOf(y),
      count: moments[0]!.count,
      options,
    };
    return { y, saved, ...trainedOf(moments) };
  }

  batchNormBackward(dy: Tensor, saved: BatchNormSaved, reducer?: BatchReducer): BatchNormGradients {
    const state = saved as NormState;
    for (const tensor of state.tensors) this.#read(tensor);
    const { gradients, incoming } = normGradients(this.#read(dy), state, reducer);
    const channels = [dy.shape[1]!];
    const made = gradients.map(({ dx, dWeight, dBias }) => ({
      dx: this.#make(dy.shape, dx),
      dWeight: this.#make(channels, dWeight),
      dBias: this.#make(channels, dBias),
    }));
    return gradientsOf(made, state.options.residual && this.#make(dy.shape, incoming));
  }

  convolutionInference(
    images: Tensor,
    filter: Tensor,
    geometry: Geometry,
    { mean, variance, ...affine }: FrozenNorm,
    { eps, relu, residual }: BatchNormOptions,
  ): Tensor {
    const x = this.#read(this.convolution(images, filter, geometry));
    const deviation_C = this.#read(variance).data.map((v) => Math.sqrt(v + eps));
    const values = normalised(x, { mean_C: this.#read(mean).data, deviation_C });
    const input = { xHat: new Values(x.shape, values), ...this.#readAffine(affine) };
    const added = residual && this.#read(residual);
    return this.#make(x.shape, combine([input], { relu, residual: added }));
  }

  maxPool(x: Tensor): { readonly y: Tensor; readonly saved: PoolSaved } {
    const input = this.#read(x).data;
    const y = this.#make(pooledShape(x.shape));
    y.data.fill(Number.NEGATIVE_INFINITY);
    const source = new Float64Array(y.data.length);
    forEachPoolInput(x.shape, (xi, yi) => {
      if (input[xi]! <= y.data[yi]!) return;
      y.data[yi] = input[xi]!;
      source[yi] = xi;
    });
    const saved = [this.#make(y.shape, source), this.#make(x.shape)];
    return { y, saved: { tensors: saved } };
  }

  maxPoolBackward(dy: Tensor, saved: PoolSaved): Tensor {
    const [source, like] = saved.tensors;
    const from = this.#read(source!).data;
    const dx = this.#make(like!.shape);
    this.#read(dy).data.forEach((d, yi) => {
      dx.data[from[yi]!]! += d;
    });
    return dx;
  }

  globalAveragePool(x: Tensor): Tensor {
    const [images, channels, height, width] = x.shape as [number, number, number, number];
    const y = this.#make([images, channels]);
    const pixels = height * width;
    this.#read(x).data.forEach((v, k) => {
      y.data[Math.floor(k / pixels)]! += v / pixels;
    });
    return y;
  }

  globalAveragePoolBackward(dy: Tensor, xShape: readonly number[]): Tensor {
    const pixels = xShape[2]! * xShape[3]!;
    const d = this.#read(dy).data;
    const dx = this.#make(xShape);
    for (let k = 0; k < dx.data.length; k++) dx.data[k] = d[Math.floor(k / pixels)]! / pixels;
    return dx;
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const offset = bias && this.#read(bias).data;
    const y = this.#multiply(this.#read(x), transposed(this.#read(weight)));
    const outputs = weight.shape[0]!;
    if (offset) for (let k = 0; k < y.data.length; k++) y.data[k]! += offset[k % outputs]!;
    return y;
  }

  linearBackwardInput(dy: Tensor, weight: Tensor): Tensor {
    return this.#multiply(this.#read(dy), this.#read(weight));
  }

  linearBackwardWeight(x: Tensor, dy: Tensor): Tensor {
    return this.#multiply(transposed(this.#read(dy)), this.#read(x));
  }

  linearBackwardBias(dy: Tensor): Tensor {
    const d = this.#read(dy).data;
    return this.#make(
      [dy.shape[1]!],
      channelSums(dy.shape, (k) => d[k]!),
    );
  }

  add(a: Tensor, b: Tensor): Tensor {
    assert.deepEqual(a.shape, b.shape);
    const other = this.#read(b).data;
    return this.#make(
      a.shape,
      this.#read(a).data.map((v, k) => v + other[k]!),
    );
  }

  contrastiveRows(z_RD: Tensor, z_GD: Tensor, options: ContrastiveOptions): ContrastiveRows {
    const { begin, temperature } = options;
    assert.equal(begin % 2, 0, "a worker holds whole pairs");
    const similarities = this.#multiply(this.#read(z_RD), transposed(this.#read(z_GD)));
    const s_RG = similarities.data;
    for (let k = 0; k < s_RG.length; k++) s_RG[k]! /= temperature;
    const [rows, rowsGlobal] = similarities.shape as [number, number];
    const logSumExp_R = new Float32Array(rows);
    const positive_R = new Float32Array(rows);
    for (let r = 0; r < rows; r++) {
      const others = [...s_RG.subarray(r * rowsGlobal, (r + 1) * rowsGlobal)];
      positive_R[r] = others[(begin + r) ^ 1]!;
      others.splice(begin + r, 1);
      logSumExp_R[r] = logSumExp(others);
    }
    return { similarities, logSumExp_R, positive_R };
  }

  contrastiveGradient(
    rows: ContrastiveRows,
    z_GD: Tensor,
    logSumExp_G: Float32Array,
    options: ContrastiveOptions,
  ): Tensor {
    const { begin, temperature } = options;
    const { shape, data: s_RG } = this.#read(rows.similarities);
    const rowsGlobal = shape[1]!;
    const weights = s_RG.map((s, k) => {
      const [i, j] = [begin + Math.floor(k / rowsGlobal), k % rowsGlobal];
      if (i === j) return 0;
      const pull = j === (i ^ 1) ? 2 : 0;
      const push = Math.exp(s - logSumExp_G[i]!) + Math.exp(s - logSumExp_G[j]!);
      return (push - pull) / (rowsGlobal * temperature);
    });
    return this.#multiply(new Values(shape, weights), this.#read(z_GD));
  }

  softmaxCrossEntropy(
    logits: Tensor,
    labels: Int32Array,
    scale: number,
  ): { readonly lossSum: number; readonly dLogits: Tensor } {
    const [rows, classes] = logits.shape as [number, number];
    assert.equal(labels.length, rows);
    const dLogits = this.#make(logits.shape);
    let lossSum = 0;
    labels.forEach((label, r) => {
      const row = this.#read(logits).data.subarray(r * classes, (r + 1) * classes);
      const total = logSumExp(row);
      lossSum += total - row[label]!;
      row.forEach((v, k) => {
        dLogits.data[r * classes + k] = scale * (Math.exp(v - total) - (k === label ? 1 : 0));
      });
    });
    return { lossSum, dLogits };
  }

  update(weight: Tensor, velocity: Tensor, gradient: Float32Array, options: UpdateOptions): void {
    const [w, v] = [this.#read(weight).data, this.#read(velocity).data];
    assert.equal(gradient.length, w.length);
    assert.equal(v.length, w.length);
    const g = Float64Array.from(gradient, (value) => value * options.gradientScale);
    stepWeights(w, v, g, options);
  }

  #make(shape: readonly number[], data: Float64Array = new Float64Array(sizeOf(shape))): Values {
    return this.#tensors.adopt(new Values(shape, data));
  }

  #read(tensor: Tensor): Values {
    return this.#tensors.open(tensor);
  }

  #readAffine({ weight, bias }: Omit<NormInput, "x">): Affine {
    return { weight: this.#read(weight), bias: this.#read(bias) };
  }

  #multiply(a: Values, b: Values): Values {
    const { shape, data } = product(a, b);
    return this.#make(shape, data);
  }
}
