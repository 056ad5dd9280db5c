/**
 * The engine on a TensorFlow.js backend.
 *
 * A handle owns one TensorFlow.js tensor. Operations that write in place give the handle a new
 * tensor instead: backends cache what they derive from a tensor (packed filters, for one), so the
 * contents of a tensor never change.
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
} from "../engine.ts";
import { gradientsOf, joined, trainedOf } from "../joined-norms.ts";
import { ScopeTracker } from "../scope-tracker.ts";
import {
  assertLabels,
  assertShape,
  contrastiveShape,
  convolutionShape,
  matrixShape,
  pooledShape,
  sizeOf,
} from "../shapes.ts";
import { contrastiveGradient, contrastiveRows } from "./contrastive.ts";
import { Handle, repeatedBytes, SavedNorm, SavedPool } from "./handle.ts";
import type { Raw, RawNormInput, RawNormOptions, Tfjs, TfjsKernels } from "./kernels.ts";
import { type Layout, layoutFor, rearrange, storedShape } from "./layout.ts";
import { normaliseImages, type PixelNorm } from "./normalise-images.ts";

export interface TfjsBackend {
  readonly name: string;
  readonly device: string;
  readonly tf: Tfjs;
  readonly kernels: TfjsKernels;
}

export class TfjsEngine implements Engine {
  readonly name: string;
  readonly device: string;
  readonly #backend: TfjsBackend;
  readonly #tf: Tfjs;
  readonly #kernels: TfjsKernels;
  readonly #handles = new ScopeTracker<Handle>((handle) => handle.raw.dispose());

  constructor(backend: TfjsBackend) {
    this.name = backend.name;
    this.device = backend.device;
    this.#backend = backend;
    this.#tf = backend.tf;
    this.#kernels = backend.kernels;
  }

  scope<T>(body: () => T): T {
    return this.#handles.run(body);
  }

  release(...tensors: readonly Tensor[]): void {
    for (const tensor of tensors) this.#handles.release(tensor);
  }

  memory(): { readonly tensors: number; readonly bytes: number } {
    const { numTensors, numBytes } = this.#tf.memory();
    // TensorFlow.js counts storage that several tensors share once for each of them.
    return { tensors: numTensors, bytes: numBytes - repeatedBytes(this.#handles) };
  }

  close(): void {
    this.#handles.releaseAll();
  }

  upload(data: Float32Array, shape: readonly number[]): Tensor {
    assert.equal(data.length, sizeOf(shape), `data does not fill the shape [${shape}]`);
    return this.#adopt(shape, "logical", this.#send(data, shape));
  }

  uploadImages(pixels_NCHW: Uint8Array, shape: readonly number[], normalise: PixelNorm): Tensor {
    const values_NHWC = normaliseImages(pixels_NCHW, shape, normalise);
    const raw = this.#tf.tensor(values_NHWC, storedShape(shape, "image"), "float32");
    return this.#adopt(shape, "image", raw);
  }

  download(tensor: Tensor, target?: Float32Array): Float32Array {
    const { raw, layout } = this.#handles.open(tensor);
    const logical = rearrange(this.#tf, raw, layout, "logical");
    const values = logical.dataSync<"float32">();
    logical.dispose();
    // A backend may have handed out the very array that it was given.
    if (!target) return values.slice();
    assert.equal(target.length, values.length, "the target has another size");
    target.set(values);
    return target;
  }

  assign(tensor: Tensor, data: Float32Array): void {
    const handle = this.#handles.open(tensor);
    const raw = this.#send(data, handle.shape);
    handle.replace(raw, "logical");
  }

  convolution(x: Tensor, weight: Tensor, geometry: Geometry): Tensor {
    const shape = convolutionShape(x.shape, weight.shape, geometry);
    const [a, w] = [this.#read(x, "image"), this.#read(weight, "filter")];
    return this.#make(shape, "image", () => this.#kernels.convolution(a, w, geometry));
  }

  convolutionBackwardInput(
    dy: Tensor,
    weight: Tensor,
    xShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assertShape(dy.shape, convolutionShape(xShape, weight.shape, geometry));
    const [d, w] = [this.#read(dy, "image"), this.#read(weight, "filter")];
    const stored = storedShape(xShape, "image");
    return this.#make(xShape, "image", () =>
      this.#kernels.convolutionBackwardInput(d, w, stored, geometry),
    );
  }

  convolutionBackwardWeight(
    x: Tensor,
    dy: Tensor,
    weightShape: readonly number[],
    geometry: Geometry,
  ): Tensor {
    assertShape(dy.shape, convolutionShape(x.shape, weightShape, geometry));
    const [a, d] = [this.#read(x, "image"), this.#read(dy, "image")];
    const stored = storedShape(weightShape, "filter");
    return this.#make(weightShape, "filter", () =>
      this.#kernels.convolutionBackwardWeight(a, d, stored, geometry),
    );
  }

  batchNormTrain(
    input: NormInput,
    options: BatchNormTrainOptions,
    reducer?: BatchReducer,
  ): BatchNormTrained {
    const { shape } = input.x;
    const inputs = joined(input, options.shortcut).map((each) => this.#readInput(each, shape));
    const rawOptions = this.#normOptions(shape, options);
    const { y, moments, kept, backward } = this.#compute(
      () => this.#kernels.batchNormTrain(inputs, rawOptions, reducer),
      (trained) => [trained.y, ...trained.kept],
    );
    const saved = new SavedNorm(this.#adoptKept(kept), shape, backward);
    return { y: this.#adopt(shape, "image", y), saved, ...trainedOf(moments) };
  }

  batchNormBackward(dy: Tensor, saved: BatchNormSaved, reducer?: BatchReducer): BatchNormGradients {
    assert.ok(saved instanceof SavedNorm, "saved by another engine");
    assertShape(dy.shape, saved.shape);
    for (const tensor of saved.tensors) this.#handles.open(tensor);
    const d = this.#read(dy, "image");
    const { inputs, dResidual } = this.#compute(
      () => saved.backward(d, reducer),
      (raw) => [...raw.inputs.flatMap(Object.values), ...(raw.dResidual ? [raw.dResidual] : [])],
    );
    const channels = [dy.shape[1]!];
    const gradients = inputs.map(({ dx, dWeight, dBias }) => ({
      dx: this.#adopt(dy.shape, "image", dx),
      dWeight: this.#adopt(channels, "logical", dWeight),
      dBias: this.#adopt(channels, "logical", dBias),
    }));
    return gradientsOf(gradients, dResidual && this.#adopt(dy.shape, "image", dResidual));
  }

  convolutionInference(
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    norm: FrozenNorm,
    options: BatchNormOptions,
  ): Tensor {
    const shape = convolutionShape(x.shape, weight.shape, geometry);
    const [a, w] = [this.#read(x, "image"), this.#read(weight, "filter")];
    const rawNorm = {
      weight: this.#readChannels(norm.weight, shape),
      bias: this.#readChannels(norm.bias, shape),
      mean: this.#readChannels(norm.mean, shape),
      variance: this.#readChannels(norm.variance, shape),
    };
    const rawOptions = this.#normOptions(shape, options);
    return this.#make(shape, "image", () => {
      const raw = this.#kernels.convolution(a, w, geometry);
      return this.#kernels.batchNormInference(raw, rawNorm, rawOptions);
    });
  }

  maxPool(x: Tensor): { readonly y: Tensor; readonly saved: PoolSaved } {
    const a = this.#read(x, "image");
    const { y, kept, backward } = this.#compute(
      () => this.#kernels.maxPool(a),
      (pooled) => [pooled.y, ...pooled.kept],
    );
    const shape = pooledShape(x.shape);
    const saved = new SavedPool(this.#adoptKept(kept), x.shape, backward);
    return { y: this.#adopt(shape, "image", y), saved };
  }

  maxPoolBackward(dy: Tensor, saved: PoolSaved): Tensor {
    assert.ok(saved instanceof SavedPool, "saved by another engine");
    assertShape(dy.shape, pooledShape(saved.xShape));
    for (const tensor of saved.tensors) this.#handles.open(tensor);
    const d = this.#read(dy, "image");
    return this.#make(saved.xShape, "image", () => saved.backward(d));
  }

  globalAveragePool(x: Tensor): Tensor {
    assert.equal(x.shape.length, 4, `[${x.shape}] is not the shape of images`);
    const a = this.#read(x, "image");
    return this.#make(x.shape.slice(0, 2), "logical", () => this.#tf.mean(a, [1, 2]));
  }

  globalAveragePoolBackward(dy: Tensor, xShape: readonly number[]): Tensor {
    const [images, channels, height, width] = xShape as [number, number, number, number];
    assertShape(dy.shape, [images, channels]);
    const d = this.#read(dy, "logical");
    const pixels = height * width;
    return this.#make(xShape, "image", () => {
      const share = this.#tf.fill([1, pixels, 1], 1 / pixels);
      const spread = this.#tf.mul(this.#tf.reshape(d, [images, 1, channels]), share);
      return this.#tf.reshape(spread, [images, height, width, channels]);
    });
  }

  linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
    const [images, inputs] = matrixShape(x);
    const [outputs, weightInputs] = matrixShape(weight);
    assert.equal(weightInputs, inputs, `weight [${weight.shape}] does not fit input [${x.shape}]`);
    const [a, w] = [this.#read(x, "logical"), this.#read(weight, "logical")];
    if (bias) assertShape(bias.shape, [outputs]);
    const b = bias && this.#read(bias, "logical");
    return this.#make([images, outputs], "logical", () => {
      const product = this.#kernels.matMul(a, w, { transposeB: true });
      return b ? this.#tf.add(product, b) : product;
    });
  }

  linearBackwardInput(dy: Tensor, weight: Tensor): Tensor {
    const [images, outputs] = matrixShape(dy);
    const [weightOutputs, inputs] = matrixShape(weight);
    assert.equal(weightOutputs, outputs, `weight [${weight.shape}] does not fit [${dy.shape}]`);
    const [d, w] = [this.#read(dy, "logical"), this.#read(weight, "logical")];
    return this.#make([images, inputs], "logical", () => this.#kernels.matMul(d, w));
  }

  linearBackwardWeight(x: Tensor, dy: Tensor): Tensor {
    const [images, inputs] = matrixShape(x);
    const [dyImages, outputs] = matrixShape(dy);
    assert.equal(dyImages, images, `[${dy.shape}] does not fit input [${x.shape}]`);
    const [a, d] = [this.#read(x, "logical"), this.#read(dy, "logical")];
    return this.#make([outputs, inputs], "logical", () =>
      this.#kernels.matMul(d, a, { transposeA: true }),
    );
  }

  linearBackwardBias(dy: Tensor): Tensor {
    const [, outputs] = matrixShape(dy);
    const d = this.#read(dy, "logical");
    return this.#make([outputs], "logical", () => this.#kernels.columnSums(d));
  }

  add(a: Tensor, b: Tensor): Tensor {
    assertShape(b.shape, a.shape);
    const { layout } = this.#handles.open(a);
    const [x, y] = [this.#read(a, layout), this.#read(b, layout)];
    return this.#make(a.shape, layout, () => this.#tf.add(x, y));
  }

  contrastiveRows(z_RD: Tensor, z_GD: Tensor, options: ContrastiveOptions): ContrastiveRows {
    const [rows, width] = matrixShape(z_RD);
    const [rowsGlobal, widthGlobal] = matrixShape(z_GD);
    assert.equal(widthGlobal, width, "embeddings differ in width");
    const [own, all] = [this.#read(z_RD, "logical"), this.#read(z_GD, "logical")];
    const raw = this.#compute(
      () => contrastiveRows(this.#backend, own, all, options),
      (made) => Object.values(made),
    );
    const logSumExp_R = raw.logSumExp_R.dataSync<"float32">();
    const positive_R = raw.positive_R.dataSync<"float32">();
    raw.logSumExp_R.dispose();
    raw.positive_R.dispose();
    const similarities = this.#adopt([rows, rowsGlobal], "logical", raw.similarities_RG);
    return { similarities, logSumExp_R, positive_R };
  }

  contrastiveGradient(
    rows: ContrastiveRows,
    z_GD: Tensor,
    logSumExp_G: Float32Array,
    options: ContrastiveOptions,
  ): Tensor {
    const shape = contrastiveShape(rows.similarities, z_GD, logSumExp_G);
    const [s, z] = [this.#read(rows.similarities, "logical"), this.#read(z_GD, "logical")];
    return this.#make(shape, "logical", () =>
      contrastiveGradient(this.#backend, s, z, logSumExp_G, options),
    );
  }

  softmaxCrossEntropy(
    logits: Tensor,
    labels: Int32Array,
    scale: number,
  ): { readonly lossSum: number; readonly dLogits: Tensor } {
    assertLabels(labels, logits);
    const raw = this.#read(logits, "logical");
    const { lossSum, dLogits } = this.#compute(
      () => this.#kernels.softmaxCrossEntropy(raw, labels, scale),
      (made) => [made.dLogits],
    );
    return { lossSum, dLogits: this.#adopt(logits.shape, "logical", dLogits) };
  }

  update(weight: Tensor, velocity: Tensor, gradient: Float32Array, options: UpdateOptions): void {
    assertShape(velocity.shape, weight.shape);
    assert.equal(gradient.length, sizeOf(weight.shape), "the gradient has another size");
    const [w, v] = [this.#handles.open(weight), this.#handles.open(velocity)];
    const { layout } = w;
    const oldVelocity = this.#read(velocity, layout);
    const updated = this.#compute(
      () => {
        const g = rearrange(this.#tf, this.#send(gradient, w.shape), "logical", layout);
        return this.#kernels.update(w.raw, oldVelocity, g, options);
      },
      (made) => [made.weight, made.velocity],
    );
    w.replace(updated.weight, layout);
    v.replace(updated.velocity, layout);
  }

  /** The tensor in the layout that the next operation wants; it keeps that layout. */
  #read(tensor: Tensor, layout: Layout): Raw {
    const handle = this.#handles.open(tensor);
    const wanted = layoutFor(tensor.shape, layout);
    if (handle.layout !== wanted)
      handle.replace(rearrange(this.#tf, handle.raw, handle.layout, wanted), wanted);
    return handle.raw;
  }

  #readChannels(tensor: Tensor, shape: readonly number[]): Raw {
    assertShape(tensor.shape, [shape[1]!]);
    return this.#read(tensor, "logical");
  }

  #readInput({ x, weight, bias }: NormInput, shape: readonly number[]): RawNormInput {
    assertShape(x.shape, shape);
    const [w, b] = [this.#readChannels(weight, shape), this.#readChannels(bias, shape)];
    return { x: this.#read(x, "image"), weight: w, bias: b };
  }

  #normOptions(
    shape: readonly number[],
    { eps, relu, residual }: BatchNormOptions,
  ): RawNormOptions {
    if (residual) assertShape(residual.shape, shape);
    return { eps, relu, residual: residual && this.#read(residual, "image") };
  }

  /** Copies, since a backend may look at the data much later than now. */
  #send(data: Float32Array, shape: readonly number[]): Raw {
    return this.#tf.tensor(data.slice(), [...shape], "float32");
  }

  #adopt(shape: readonly number[], layout: Layout, raw: Raw): Tensor {
    return this.#handles.adopt(new Handle(shape, layout, raw));
  }

  #adoptKept(kept: readonly Raw[]): readonly Tensor[] {
    return kept.map((raw) => this.#adopt(raw.shape, "logical", raw));
  }

  #make(shape: readonly number[], layout: Layout, body: () => Raw): Tensor {
    return this.#adopt(shape, layout, this.#tf.tidy(body));
  }

  /** Runs kernels and frees what they made, except the tensors that `keep` picks. */
  #compute<T>(body: () => T, keep: (result: T) => readonly Raw[]): T {
    let result!: T;
    this.#tf.tidy(() => {
      result = body();
      return [...keep(result)];
    });
    return result;
  }
}
