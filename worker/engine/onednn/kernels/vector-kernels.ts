/**
 * The memory-bound operations that oneDNN lacks: batch-norm statistics, fused normalise, residual
 * and ReLU with their backward, and the optimizer's vector work.
 */

import type { ElementType } from "./elements.ts";

export type { ElementType } from "./elements.ts";

/**
 * An image tensor in oneDNN's nChw8c or nChw16c: [images, blocks, pixels, width] in memory, with
 * channels padded to blocks * width.
 */
export interface ImageShape {
  readonly images: number;
  readonly blocks: number;
  readonly pixels: number;
  readonly width: 8 | 16;
  readonly type: ElementType;
}

/** Which values the rectifier let pass. All numbers are addresses. */
export type ReluMask =
  | { readonly kind: "none" }
  /** Passes where y > 0; y has the shape and type of the gradient. */
  | { readonly kind: "output"; readonly y: number }
  /** Passes where x * scale + shift > 0, computed as {@link VectorKernels.normalise} does. */
  | { readonly kind: "input"; readonly scale: number; readonly shift: number };

export interface NormaliseOptions {
  readonly relu: boolean;
  /** Address of an image that is added before the rectifier. */
  readonly residual?: number;
}

export interface MomentumOptions {
  /** Learning rate of this tensor. */
  readonly step: number;
  readonly gradientScale: number;
  readonly decay: number;
  readonly momentum: number;
  readonly nesterov: boolean;
}

/**
 * Runs the kernels on the threads of oneDNN's OpenMP pool. Every call blocks, and its result does
 * not depend on the number of threads. Arguments named after data are addresses of memory that the
 * caller keeps; per-channel vectors are f32 of blocks * width values.
 */
export class VectorKernels {
  /** Throws where the CPU, libgomp or executable memory is missing. */
  static open(_threads: number): VectorKernels {
    throw new Error("not there yet");
  }

  close(): void {}

  /** out, f32 [images, blocks, 2, width]: sum(x - pivot) and sum((x - pivot)^2) over pixels. */
  moments(_shape: ImageShape, _x: number, _pivot: number, _out: number): void {}

  /** y = x * scale + shift (+ residual), rectified on request. y may be x or the residual. */
  normalise(
    _shape: ImageShape,
    _x: number,
    _scale: number,
    _shift: number,
    _y: number,
    _options: NormaliseOptions,
  ): void {}

  /**
   * out, f32 [images, blocks, 2, width]: sum(d) and sum(d * (x - mean)) over pixels, where d is dy
   * where the mask passes, else 0.
   */
  backwardSums(
    _shape: ImageShape,
    _dy: number,
    _x: number,
    _mean: number,
    _mask: ReluMask,
    _out: number,
  ): void {}

  /**
   * dx = a * d + b * x + c with per-channel a, b and c; also stores d where an address for it is
   * given. dx and dResidual may be the addresses of dy, x or y.
   */
  backwardApply(
    _shape: ImageShape,
    _dy: number,
    _x: number,
    _a: number,
    _b: number,
    _c: number,
    _mask: ReluMask,
    _dx: number,
    _dResidual?: number,
  ): void {}

  /** out = a + b; out may be a or b. */
  add(_type: ElementType, _count: number, _a: number, _b: number, _out: number): void {}

  /** Sum of squares of f32 values, accumulated in float64. */
  sumOfSquares(_count: number, _values: number): number {
    return 0;
  }

  /**
   * One step of SGD on f32 arrays in place: d = step * (gradientScale * g + decay * w),
   * v = momentum * v + d, w -= nesterov ? d + momentum * v : v.
   */
  momentumStep(
    _count: number,
    _weight: number,
    _velocity: number,
    _gradient: number,
    _options: MomentumOptions,
  ): void {}
}
