/**
 * What the TensorFlow.js backends do differently, below {@link TfjsEngine}.
 *
 * Kernels work on TensorFlow.js tensors in its own layouts: images NHWC, filters HWIO, matrices
 * row-major. They run inside `tf.tidy`, so intermediates need no care; what they return is kept.
 */

import type * as TfjsCore from "@tensorflow/tfjs-core";
import type { BatchReducer, Geometry, Moments, UpdateOptions } from "../engine.ts";

export type Tfjs = typeof TfjsCore;
export type Raw = TfjsCore.Tensor;

export interface RawNormOptions {
  readonly eps: number;
  readonly relu: boolean;
  readonly residual: Raw | undefined;
}

/** x [...,C]; weight, bias [C]. */
export interface RawNormInput {
  readonly x: Raw;
  readonly weight: Raw;
  readonly bias: Raw;
}

export interface RawInputGradients {
  readonly dx: Raw;
  readonly dWeight: Raw;
  readonly dBias: Raw;
}

interface RawNormGradients {
  /** In the order of the forward's. */
  readonly inputs: readonly RawInputGradients[];
  /** Present when the forward had a residual. */
  readonly dResidual?: Raw;
}

export interface RawNormTrained {
  readonly y: Raw;
  /** In the order of the inputs. */
  readonly moments: readonly Moments[];
  /** Tensors that `backward` reads. */
  readonly kept: readonly Raw[];
  readonly backward: (dy: Raw, reducer: BatchReducer | undefined) => RawNormGradients;
}

export interface RawPooled {
  readonly y: Raw;
  readonly kept: readonly Raw[];
  readonly backward: (dy: Raw) => Raw;
}

interface MatMulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

export interface TfjsKernels {
  matMul(a: Raw, b: Raw, options?: MatMulOptions): Raw;
  /** [columns.length, depth]: `value` in one column of each row, 0 elsewhere. */
  oneHot(columns: Int32Array, depth: number, value: number): Raw;
  /** Sums over all but the last axis. */
  columnSums(x: Raw): Raw;

  /** x [N,H,W,I], filter [kh,kw,I,O] -> [N,H',W',O]. */
  convolution(x: Raw, filter: Raw, geometry: Geometry): Raw;
  /** @param xShape [N,H,W,I] */
  convolutionBackwardInput(
    dy: Raw,
    filter: Raw,
    xShape: readonly number[],
    geometry: Geometry,
  ): Raw;
  /** @param filterShape [kh,kw,I,O] */
  convolutionBackwardWeight(
    x: Raw,
    dy: Raw,
    filterShape: readonly number[],
    geometry: Geometry,
  ): Raw;

  /** The sum of the norms of all inputs, which have the same shape, and of the residual. */
  batchNormTrain(
    inputs: readonly RawNormInput[],
    options: RawNormOptions,
    reducer: BatchReducer | undefined,
  ): RawNormTrained;
  batchNormInference(
    x: Raw,
    norm: {
      readonly weight: Raw;
      readonly bias: Raw;
      readonly mean: Raw;
      readonly variance: Raw;
    },
    options: RawNormOptions,
  ): Raw;

  /** 3x3 window, stride 2, padding 1. */
  maxPool(x: Raw): RawPooled;

  softmaxCrossEntropy(
    logits: Raw,
    labels: Int32Array,
    scale: number,
  ): { readonly lossSum: number; readonly dLogits: Raw };

  /** The new weight and velocity; all three tensors have the same layout. */
  update(
    weight: Raw,
    velocity: Raw,
    gradient: Raw,
    options: UpdateOptions,
  ): { readonly weight: Raw; readonly velocity: Raw };
}
