/**
 * Batch normalisation in as few passes over memory as its data dependencies allow: one for the
 * statistics, one to normalise, add and rectify; one for the backward's sums, one for its result.
 *
 * What is known per channel is computed here, in float64. Rectifiers keep no mask: without a
 * residual their decisions follow from the input, with one from the output, which is the next
 * layer's input and alive anyway. A shortcut's backward reads the same mask, so the rectified
 * gradient, which both norms get, is never written.
 */

import type {
  BatchNormGradients,
  BatchNormTrained,
  BatchNormTrainOptions,
  BatchReducer,
  Moments,
  NormInput,
  Tensor,
} from "../engine.ts";
import { gradientsOf, joined, reduceMoments, reduceSums, trainedOf } from "../joined-norms.ts";
import { sizeOf } from "../shapes.ts";
import type { Block } from "./arena.ts";
import { floatOf } from "./bfloat16.ts";
import type { Device } from "./device.ts";
import type { ImageShape, ReluMask } from "./kernels/vector-kernels.ts";
import { type Layout, ROW_MULTIPLE } from "./layout.ts";
import { type Rectifier, type SavedInput, SavedNorm, type Stored } from "./stored.ts";
import type { Address } from "./symbols.ts";

/** Floats of two partial sums for each image and channel. */
const SUMS = 2;
const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;

/** Rows of {@link SavedNorm.vectors}. */
const SCALE = 0;
const SHIFT = 1;
const MEAN = 2;
const INVERSE = 3;
const VECTORS = 4;

/** How kernels see a tensor. */
interface View {
  readonly layout: Layout;
  readonly image: ImageShape;
  readonly channels: number;
  /** Channels with padding. */
  readonly padded: number;
}

export class BatchNorm {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  train(
    input: NormInput,
    options: BatchNormTrainOptions,
    reducer: BatchReducer | undefined,
  ): BatchNormTrained {
    const { store } = this.#device;
    const { relu, residual, shortcut } = options;
    const view = this.#viewOf(input.x.shape);
    const given = joined(input, shortcut).map((each) => ({
      ...each,
      x: this.#asView(each.x, view),
    }));
    const own = given.map(({ x }) => this.#moments(view, x));
    const moments = reduceMoments(own, reducer);
    const [first, second] = given.map(({ x, weight, bias }, k): SavedInput => {
      return { x, vectors: this.#vectors(view, { weight, bias }, moments[k]!, options.eps) };
    });
    const inputs = joined(first!, second);

    const y = store.make(input.x.shape, view.layout);
    const finish = (added: Address | undefined): void =>
      this.#normalise(view, first!, y.block.address, { relu, added });
    if (second) {
      store.borrow(view.layout.bytes, ({ address }) => {
        this.#normalise(view, second, address, { relu: false, added: undefined });
        finish(address);
      });
    } else finish(residual && store.read(residual, view.layout));

    const isSum = residual !== undefined || second !== undefined;
    const rectifier: Rectifier = !relu ? "none" : isSum ? "with residual" : "without residual";
    const saved = new SavedNorm({
      inputs,
      y: rectifier === "with residual" ? store.share(y) : undefined,
      rectifier,
      hasResidual: residual !== undefined,
      count: moments[0]!.count,
    });
    return { y, saved, ...trainedOf(moments) };
  }

  backward(dy: Tensor, saved: SavedNorm, reducer: BatchReducer | undefined): BatchNormGradients {
    const { store } = this.#device;
    for (const tensor of saved.tensors) store.open(tensor);
    const view = this.#viewOf(saved.shape);
    const incoming = store.read(dy, view.layout);
    const mask = maskOf(saved, view);
    const own = saved.inputs.map((input) => this.#backwardSums(view, input, incoming, mask));
    const sums = reduceSums(own, reducer);

    const dResidual = saved.hasResidual ? store.make(saved.shape, view.layout) : undefined;
    const gradients = saved.inputs.map((input, k) => {
      const dx = store.make(saved.shape, view.layout);
      this.#withSlopes(view, input, { count: saved.count, sums: sums[k]! }, (slopes) => {
        const at = (row: number): Address => slopes.address + row * view.padded * FLOAT_BYTES;
        this.#measure("batch norm backward", view, () =>
          this.#device.kernels.backwardApply(
            view.image,
            incoming,
            input.x.block.address,
            rowOf(input.vectors, view, SCALE),
            at(0),
            at(1),
            mask,
            dx.block.address,
            dResidual?.block.address,
          ),
        );
      });
      const dBias = this.#upload(own[k]!.subarray(0, view.channels));
      return { dx, dWeight: this.#upload(own[k]!.subarray(view.channels)), dBias };
    });
    return gradientsOf(gradients, dResidual);
  }

  /** Sums over the pixels of a map [N, C, H, W], as [N, C]. */
  pixelSums(x: Tensor): Stored {
    const { store, kernels } = this.#device;
    const view = this.#viewOf(x.shape);
    const { images, blocks, width } = view.image;
    const input = store.read(x, view.layout);
    const result = store.makePlain(x.shape.slice(0, 2));
    const sums = result.block.floats();
    store.borrow(view.padded * FLOAT_BYTES, (pivot) => {
      pivot.floats().fill(0);
      store.borrow(partialBytes(view), (out) => {
        this.#measure("pixel sums", view, () =>
          kernels.moments(view.image, input, pivot.address, out.address),
        );
        const partial = out.floats();
        for (let image = 0; image < images; image++) {
          for (let c = 0; c < view.channels; c++) {
            const item = image * blocks + Math.floor(c / width);
            sums[image * view.channels + c] = partial[item * SUMS * width + (c % width)]!;
          }
        }
      });
    });
    return result;
  }

  /** [4, channels]: what the statistics and the parameters make of each channel. */
  #vectors(
    view: View,
    { weight, bias }: Pick<NormInput, "weight" | "bias">,
    moments: Moments,
    eps: number,
  ): Stored {
    const { store } = this.#device;
    const vectors = store.makePlain([VECTORS, view.padded]);
    const rows = vectors.block.floats().fill(0);
    const [gamma, beta] = [store.floats(weight), store.floats(bias)];
    for (let c = 0; c < view.channels; c++) {
      const inverse = 1 / Math.sqrt(moments.variance[c]! + eps);
      const scale = Math.fround(gamma[c]! * inverse);
      rows[SCALE * view.padded + c] = scale;
      rows[SHIFT * view.padded + c] = beta[c]! - moments.mean[c]! * scale;
      rows[MEAN * view.padded + c] = moments.mean[c]!;
      rows[INVERSE * view.padded + c] = inverse;
    }
    return vectors;
  }

  #normalise(
    view: View,
    { x, vectors }: SavedInput,
    y: Address,
    { relu, added }: { readonly relu: boolean; readonly added: Address | undefined },
  ): void {
    const options = { relu, ...(added !== undefined && { residual: added }) };
    const name = `batch norm${relu ? "+relu" : ""}${added !== undefined ? "+add" : ""}`;
    this.#measure(name, view, () =>
      this.#device.kernels.normalise(
        view.image,
        x.block.address,
        rowOf(vectors, view, SCALE),
        rowOf(vectors, view, SHIFT),
        y,
        options,
      ),
    );
  }

  /** This worker's sums of dy, then of dy xHat, with dy as the mask leaves it. */
  #backwardSums(
    view: View,
    { x, vectors }: SavedInput,
    incoming: Address,
    mask: ReluMask,
  ): Float32Array {
    const { channels, padded } = view;
    const partial = this.#partialSums(view, (out) =>
      this.#measure("batch norm backward sums", view, () =>
        this.#device.kernels.backwardSums(
          view.image,
          incoming,
          x.block.address,
          rowOf(vectors, view, MEAN),
          mask,
          out,
        ),
      ),
    );
    const rows = vectors.block.floats();
    const sums = new Float32Array(SUMS * channels);
    for (let c = 0; c < channels; c++) {
      sums[c] = partial[c]!;
      sums[channels + c] = partial[padded + c]! * rows[INVERSE * padded + c]!;
    }
    return sums;
  }

  /** Differences from the first pixel are summed: values far from zero then lose no digits. */
  #moments(view: View, input: Stored): Moments {
    const { store, kernels } = this.#device;
    const { channels, padded } = view;
    const count = view.image.images * view.image.pixels;
    return store.borrow(padded * FLOAT_BYTES, (block) => {
      const pivot = block.floats();
      copyFirstPixel(view, input, pivot);
      const partial = this.#partialSums(view, (out) =>
        this.#measure("batch norm statistics", view, () =>
          kernels.moments(view.image, input.block.address, block.address, out),
        ),
      );
      const mean = new Float32Array(channels);
      const variance = new Float32Array(channels);
      for (let c = 0; c < channels; c++) {
        const shift = partial[c]! / count;
        mean[c] = pivot[c]! + shift;
        variance[c] = Math.max(0, partial[padded + c]! / count - shift ** 2);
      }
      return { mean, variance, count };
    });
  }

  /** Runs a kernel that sums per image, and adds its sums in the order of the images. */
  #partialSums(view: View, run: (out: Address) => void): Float64Array {
    const { images, blocks, width } = view.image;
    return this.#device.store.borrow(partialBytes(view), (out) => {
      run(out.address);
      const partial = out.floats();
      const sums = new Float64Array(SUMS * view.padded);
      for (let image = 0, at = 0; image < images; image++) {
        for (let block = 0; block < blocks; block++) {
          for (let sum = 0; sum < SUMS; sum++) {
            const to = sum * view.padded + block * width;
            for (let lane = 0; lane < width; lane++, at++) sums[to + lane]! += partial[at]!;
          }
        }
      }
      return sums;
    });
  }

  /**
   * dx = scale (dy - mean(dy) - xHat mean(dy xHat)) = scale dy + slope x + offset, with means over
   * the gang's batch. `body` gets slope and offset.
   */
  #withSlopes(
    view: View,
    { vectors }: SavedInput,
    { count, sums }: { readonly count: number; readonly sums: Float32Array },
    body: (slopes: Block) => void,
  ): void {
    const { channels, padded } = view;
    const rows = vectors.block.floats();
    this.#device.store.borrow(2 * padded * FLOAT_BYTES, (block) => {
      const slopes = block.floats().fill(0);
      for (let c = 0; c < channels; c++) {
        const scale = rows[SCALE * padded + c]!;
        const inverse = rows[INVERSE * padded + c]!;
        const slope = (-scale * inverse * sums[channels + c]!) / count;
        slopes[c] = slope;
        slopes[padded + c] = (-scale * sums[c]!) / count - slope * rows[MEAN * padded + c]!;
      }
      body(block);
    });
  }

  #viewOf(shape: readonly number[]): View {
    const { layouts } = this.#device;
    const [images, channels] = shape as [number, number];
    const isMap = shape.length === 4;
    const width = isMap ? layouts.width : ROW_MULTIPLE;
    const layout = isMap ? layouts.blocked(shape) : layouts.rows(shape);
    const blocks = Math.ceil(channels / width);
    const pixels = sizeOf(shape.slice(2));
    const image = { images, blocks, pixels, width, type: layout.type };
    return { layout, image, channels, padded: blocks * width };
  }

  /** The tensor as kernels read it, with a share that outlives the caller's. */
  #asView(x: Tensor, { layout }: View): Stored {
    const { store } = this.#device;
    const stored = store.open(x);
    if (stored.layout === layout) return store.share(stored);
    return store.convert(stored, layout);
  }

  #upload(values: Float32Array): Stored {
    const stored = this.#device.store.makePlain([values.length]);
    stored.block.floats(values.length).set(values);
    return stored;
  }

  #measure(name: string, { image }: View, body: () => void): void {
    const { images, blocks, pixels, width } = image;
    const shape = [images, blocks * width, pixels];
    const operation = { name: `${name} [${shape}]`, implementation: "avx2", flops: 0 };
    this.#device.work.run(operation, body);
  }
}

function maskOf(saved: SavedNorm, view: View): ReluMask {
  switch (saved.rectifier) {
    case "none":
      return { kind: "none" };
    case "with residual":
      return { kind: "output", y: saved.y!.block.address };
    case "without residual": {
      const [scale, shift] = [SCALE, SHIFT].map((row) => rowOf(saved.inputs[0].vectors, view, row));
      return { kind: "input", scale: scale!, shift: shift! };
    }
  }
}

function rowOf(vectors: Stored, { padded }: View, row: number): Address {
  return vectors.block.address + row * padded * FLOAT_BYTES;
}

function partialBytes({ image, padded }: View): number {
  return image.images * SUMS * padded * FLOAT_BYTES;
}

function copyFirstPixel({ image, padded }: View, input: Stored, target: Float32Array): void {
  const { width, pixels, type } = image;
  const { block } = input;
  const values = type === "f32" ? block.floats() : block.halves();
  for (let c = 0; c < padded; c++) {
    const value = values[Math.floor(c / width) * pixels * width + (c % width)]!;
    target[c] = type === "f32" ? value : floatOf(value);
  }
}
