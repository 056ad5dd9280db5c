/**
 * The engine on oneDNN: convolutions and matrix products by the library, everything that only moves
 * memory by kernels of our own.
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
  OperationProfile,
  PoolSaved,
  Tensor,
  UpdateOptions,
} from "../engine.ts";
import { joined } from "../joined-norms.ts";
import {
  assertLabels,
  assertShape,
  contrastiveShape,
  convolutionShape,
  matrixShape,
  pooledShape,
  sizeOf,
} from "../shapes.ts";
import { BatchNorm } from "./batch-norm.ts";
import { summariseRows, weighRows } from "./contrastive.ts";
import { softmaxCrossEntropy } from "./cross-entropy.ts";
import type { Device } from "./device.ts";
import { foldNorm } from "./fold-norm.ts";
import { elementBytes } from "./layout.ts";
import type { Operand } from "./matrices.ts";
import { SavedNorm, SavedPool } from "./stored.ts";
import type { Address } from "./symbols.ts";
import { updateWeights } from "./update-weights.ts";

export class OnednnEngine implements Engine {
  readonly name: string;
  readonly device: string;
  readonly takeProfile?: () => readonly OperationProfile[];
  readonly #device: Device;
  readonly #norms: BatchNorm;

  constructor(device: Device, names: { readonly name: string; readonly device: string }) {
    this.name = names.name;
    this.device = names.device;
    this.#device = device;
    this.#norms = new BatchNorm(device);
    const { work } = device;
    if (work.isProfiled) this.takeProfile = () => work.takeProfile();
  }

  scope<T>(body: () => T): T {
    return this.#device.store.scope(body);
  }

  release(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#device.store.release(tensor);
  }

  memory(): { readonly tensors: number; readonly bytes: number } {
    return this.#device.store.memory();
  }

  close(): void {
    this.#device.store.releaseAll();
    this.#device.workshop.close();
    this.#device.kernels.close();
    this.#device.library.close();
  }

  upload(data: Float32Array, shape: readonly number[]): Tensor {
    assert.equal(data.length, sizeOf(shape), `data does not fill the shape [${shape}]`);
    const stored = this.#device.store.makePlain(shape);
    stored.block.floats(data.length).set(data);
    return stored;
  }

  uploadImages(
    pixels_NCHW: Uint8Array,
    shape: readonly number[],
    { mean, std }: { readonly mean: readonly number[]; readonly std: readonly number[] },
  ): Tensor {
    assert.equal(shape.length, 4, `[${shape}] is not the shape of images`);
    assert.equal(pixels_NCHW.length, sizeOf(shape), `pixels do not fill the shape [${shape}]`);
    const [images, channels, height, width] = shape as [number, number, number, number];
    assert.equal(mean.length, channels, "one mean per channel");
    assert.equal(std.length, channels, "one std per channel");
    const stored = this.#device.store.makePlain(shape);
    const values = stored.block.floats();
    const pixels = height * width;
    for (let c = 0; c < channels; c++) {
      const table = Float32Array.from({ length: 256 }, (_, pixel) => (pixel - mean[c]!) / std[c]!);
      for (let n = 0; n < images; n++) {
        const begin = (n * channels + c) * pixels;
        const end = begin + pixels;
        for (let at = begin; at < end; at++) values[at] = table[pixels_NCHW[at]!]!;
      }
    }
    return stored;
  }

  download(
    tensor: Tensor,
    target: Float32Array = new Float32Array(sizeOf(tensor.shape)),
  ): Float32Array {
    assert.equal(target.length, sizeOf(tensor.shape), "the target has another size");
    this.#device.store.copyOut(tensor, target);
    return target;
  }

  assign(tensor: Tensor, data: Float32Array): void {
    assert.equal(data.length, sizeOf(tensor.shape), "the data have another size");
    const { store, layouts } = this.#device;
    const stored = store.open(tensor);
    assert.equal(stored.layout, layouts.plain(tensor.shape), "uploaded tensors are assigned to");
    store.touch(stored);
    stored.block.floats(data.length).set(data);
  }

  convolution(x: Tensor, weight: Tensor, geometry: Geometry): Tensor {
    const shape = convolutionShape(x.shape, weight.shape, geometry);
    const { store, convolutions } = this.#device;
    const key = { x: x.shape, weight: weight.shape, geometry };
    const { primitive, ...layouts } = convolutions.forward(key);
    const [input, filter] = [store.read(x, layouts.x), store.read(weight, layouts.weights)];
    const y = store.make(shape, layouts.y);
    primitive.run(input, filter, y.block.address);
    return y;
  }

  convolutionBackwardInput(
    dy: Tensor,
    weight: Tensor,
    xShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assertShape(dy.shape, convolutionShape(xShape, weight.shape, geometry));
    const { store, convolutions } = this.#device;
    const key = { x: xShape, weight: weight.shape, geometry };
    const { primitive, ...layouts } = convolutions.backwardInput(key);
    const [incoming, filter] = [store.read(dy, layouts.y), store.read(weight, layouts.weights)];
    const dx = store.make(xShape, layouts.x);
    primitive.run(incoming, filter, dx.block.address);
    return dx;
  }

  convolutionBackwardWeight(
    x: Tensor,
    dy: Tensor,
    weightShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assertShape(dy.shape, convolutionShape(x.shape, weightShape, geometry));
    const { store, convolutions } = this.#device;
    const key = { x: x.shape, weight: weightShape, geometry };
    const { primitive, ...layouts } = convolutions.backwardWeight(key);
    const [input, incoming] = [store.read(x, layouts.x), store.read(dy, layouts.y)];
    const dWeight = store.make(weightShape, layouts.weights);
    primitive.run(input, incoming, dWeight.block.address);
    return dWeight;
  }

  convolutionInference(
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    norm: FrozenNorm,
    options: BatchNormOptions,
  ): Tensor {
    const shape = convolutionShape(x.shape, weight.shape, geometry);
    const { store, convolutions } = this.#device;
    const { relu, residual } = options;
    if (residual) assertShape(residual.shape, shape);
    const key = { x: x.shape, weight: weight.shape, geometry };
    const finish = { relu, residual: residual !== undefined };
    const { primitive, ...layouts } = convolutions.inference(key, finish);
    const folded = foldNorm(this.#device, store.open(weight), layouts.weights, norm, options.eps);
    const input = store.read(x, layouts.x);
    const added = residual ? [store.read(residual, layouts.y)] : [];
    const y = store.make(shape, layouts.y);
    primitive.run(input, folded.weights.address, folded.bias.address, y.block.address, ...added);
    return y;
  }

  batchNormTrain(
    input: NormInput,
    options: BatchNormTrainOptions,
    reducer?: BatchReducer,
  ): BatchNormTrained {
    const { shape } = input.x;
    for (const { x, weight, bias } of joined(input, options.shortcut)) {
      assertShape(x.shape, shape);
      assertShape(weight.shape, [shape[1]!]);
      assertShape(bias.shape, [shape[1]!]);
    }
    if (options.residual) assertShape(options.residual.shape, shape);
    return this.#norms.train(input, options, reducer);
  }

  batchNormBackward(dy: Tensor, saved: BatchNormSaved, reducer?: BatchReducer): BatchNormGradients {
    assert.ok(saved instanceof SavedNorm, "saved by another engine");
    assertShape(dy.shape, saved.shape);
    return this.#norms.backward(dy, saved, reducer);
  }

  maxPool(x: Tensor): { readonly y: Tensor; readonly saved: PoolSaved } {
    const shape = pooledShape(x.shape);
    const { store, layouts, pools } = this.#device;
    const { forward, workspace } = pools.max(x.shape);
    const input = store.read(x, layouts.map(x.shape));
    const y = store.make(shape, layouts.map(shape));
    const kept = store.make(shape, workspace);
    forward.run(input, y.block.address, kept.block.address);
    return { y, saved: new SavedPool(kept, x.shape) };
  }

  maxPoolBackward(dy: Tensor, saved: PoolSaved): Tensor {
    assert.ok(saved instanceof SavedPool, "saved by another engine");
    const { xShape, workspace } = saved;
    assertShape(dy.shape, pooledShape(xShape));
    const { store, layouts, pools } = this.#device;
    store.open(workspace);
    const incoming = store.read(dy, layouts.map(dy.shape));
    const dx = store.make(xShape, layouts.map(xShape));
    const { backward } = pools.max(xShape);
    backward.run(incoming, workspace.block.address, dx.block.address);
    return dx;
  }

  globalAveragePool(x: Tensor): Tensor {
    assert.equal(x.shape.length, 4, `[${x.shape}] is not the shape of images`);
    const pixels = sizeOf(x.shape.slice(2));
    const means = this.#norms.pixelSums(x);
    const values = this.#device.store.floats(means);
    for (let k = 0; k < values.length; k++) values[k]! /= pixels;
    return means;
  }

  globalAveragePoolBackward(dy: Tensor, xShape: readonly number[]): Tensor {
    const [images, channels] = xShape as [number, number];
    assertShape(dy.shape, [images, channels]);
    const { store, layouts, pools } = this.#device;
    const mapShape = [images, channels, 1, 1];
    return store.scope(() => {
      const dMeans = store.makePlain(mapShape);
      dMeans.block.floats(images * channels).set(store.floats(dy));
      const dx = store.make(xShape, layouts.map(xShape));
      pools
        .averageBackward(xShape)
        .run(store.read(dMeans, layouts.map(mapShape)), dx.block.address);
      return dx;
    });
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const [images, inputs] = matrixShape(x);
    const [outputs, weightInputs] = matrixShape(weight);
    assert.equal(weightInputs, inputs, `weight [${weight.shape}] does not fit input [${x.shape}]`);
    if (bias) assertShape(bias.shape, [outputs]);
    const { store, matrices } = this.#device;
    const y = store.makePlain([images, outputs]);
    if (bias) {
      const [values, row] = [store.floats(y), store.floats(bias)];
      for (let at = 0; at < values.length; at += outputs) values.set(row, at);
    }
    const b = { ...this.#operand(weight), transposed: true };
    matrices.multiply(this.#operand(x), b, y.block.address, { accumulate: bias !== undefined });
    return y;
  }

  linearBackwardInput(dy: Tensor, weight: Tensor): Tensor {
    const [images, outputs] = matrixShape(dy);
    const [weightOutputs, inputs] = matrixShape(weight);
    assert.equal(weightOutputs, outputs, `weight [${weight.shape}] does not fit [${dy.shape}]`);
    const { store, matrices } = this.#device;
    const dx = store.makePlain([images, inputs]);
    matrices.multiply(this.#operand(dy), this.#operand(weight), dx.block.address);
    return dx;
  }

  linearBackwardWeight(x: Tensor, dy: Tensor): Tensor {
    const [images, inputs] = matrixShape(x);
    const [dyImages, outputs] = matrixShape(dy);
    assert.equal(dyImages, images, `[${dy.shape}] does not fit input [${x.shape}]`);
    const { store, matrices } = this.#device;
    const dWeight = store.makePlain([outputs, inputs]);
    const a = { ...this.#operand(dy), transposed: true };
    matrices.multiply(a, this.#operand(x), dWeight.block.address);
    return dWeight;
  }

  linearBackwardBias(dy: Tensor): Tensor {
    const [images, outputs] = matrixShape(dy);
    const { store } = this.#device;
    const dBias = store.makePlain([outputs]);
    const rows = store.floats(dy);
    const sums = new Float64Array(outputs);
    for (let n = 0; n < images; n++) {
      for (let o = 0; o < outputs; o++) sums[o]! += rows[n * outputs + o]!;
    }
    store.floats(dBias).set(sums);
    return dBias;
  }

  add(a: Tensor, b: Tensor): Tensor {
    assertShape(b.shape, a.shape);
    const { store, kernels, work } = this.#device;
    const { layout, block } = store.open(a);
    const other = store.read(b, layout);
    const sum = store.make(a.shape, layout);
    const count = layout.bytes / elementBytes(layout.type);
    const operation = { name: `add [${a.shape}]`, implementation: "avx2", flops: 0 };
    work.run(operation, () =>
      kernels.add(layout.type, count, block.address, other, sum.block.address),
    );
    return sum;
  }

  contrastiveRows(z_RD: Tensor, z_GD: Tensor, options: ContrastiveOptions): ContrastiveRows {
    const [rows, width] = matrixShape(z_RD);
    const [rowsGlobal, widthGlobal] = matrixShape(z_GD);
    assert.equal(widthGlobal, width, "embeddings differ in width");
    const { store, matrices } = this.#device;
    const similarities = store.makePlain([rows, rowsGlobal]);
    const all = { ...this.#operand(z_GD), transposed: true };
    const scale = 1 / options.temperature;
    matrices.multiply(this.#operand(z_RD), all, similarities.block.address, { scale });
    return { similarities, ...summariseRows(store.floats(similarities), rows, options) };
  }

  contrastiveGradient(
    { similarities }: ContrastiveRows,
    z_GD: Tensor,
    logSumExp_G: Float32Array,
    options: ContrastiveOptions,
  ): Tensor {
    const shape = contrastiveShape(similarities, z_GD, logSumExp_G);
    const { store, matrices } = this.#device;
    return store.scope(() => {
      const weights = store.makePlain(similarities.shape);
      weighRows(store.floats(similarities), logSumExp_G, options, store.floats(weights));
      const dz = store.makePlain(shape);
      const scale = 1 / (logSumExp_G.length * options.temperature);
      const [a, b] = [this.#operand(weights), this.#operand(z_GD)];
      matrices.multiply(a, b, dz.block.address, { scale });
      return dz;
    });
  }

  softmaxCrossEntropy(
    logits: Tensor,
    labels: Int32Array,
    scale: number,
  ): { readonly lossSum: number; readonly dLogits: Tensor } {
    assertLabels(labels, logits);
    const { store } = this.#device;
    const dLogits = store.makePlain(logits.shape);
    const [values, gradient] = [store.floats(logits), store.floats(dLogits)];
    return { lossSum: softmaxCrossEntropy(values, labels, scale, gradient), dLogits };
  }

  update(weight: Tensor, velocity: Tensor, gradient: Float32Array, options: UpdateOptions): void {
    assertShape(velocity.shape, weight.shape);
    assert.equal(gradient.length, sizeOf(weight.shape), "the gradient has another size");
    updateWeights(this.#device, weight, velocity, gradient, options);
  }

  #operand(tensor: Tensor): Operand {
    const { store, layouts } = this.#device;
    const [rows, columns] = matrixShape(tensor);
    const address: Address = store.read(tensor, layouts.plain(tensor.shape));
    return { address, rows, columns };
  }
}
