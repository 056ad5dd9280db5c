/**
 * The memory-bound operations that oneDNN lacks: batch-norm statistics, fused normalise, residual
 * and ReLU with their backward, and the optimizer's vector work.
 *
 * A kernel is machine code that is written on first use, for one element type, block width and set
 * of options each, so that nothing is decided inside its loop.
 */

import assert from "node:assert/strict";
import fs from "node:fs";
import koffi from "koffi";
import type { ElementType } from "./elements.ts";
import { ExecutableMemory } from "./executable-memory.ts";
import {
  addKernel,
  convertKernel,
  momentumKernel,
  PARTIAL_SUMS,
  PIECE,
  sumOfSquaresKernel,
} from "./flat-kernels.ts";
import {
  backwardApplyKernel,
  backwardSumsKernel,
  momentsKernel,
  normaliseKernel,
} from "./image-kernels.ts";
import { loadOpenMp, type RunTeam } from "./open-mp.ts";
import { SLOT, SLOT_BYTES, SLOTS, type Team } from "./work-items.ts";

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

/** What one call of a kernel works on. */
interface Work {
  readonly items: number;
  readonly blocks?: number;
  readonly elements: number;
  readonly addresses: readonly number[];
  readonly scalars?: readonly number[];
}

/**
 * Runs the kernels on the threads of oneDNN's OpenMP pool. Every call blocks, and its result does
 * not depend on the number of threads. Arguments named after data are addresses of memory that the
 * caller keeps; per-channel vectors are f32 of blocks * width values.
 */
export class VectorKernels {
  readonly #threads: number;
  readonly #runTeam: RunTeam;
  readonly #team: Team;
  readonly #kernels = new Map<string, ExecutableMemory>();
  /** What kernels read their arguments from; floats lie in the same memory. */
  readonly #slots = new Uint32Array(SLOTS * (SLOT_BYTES / 4));
  readonly #floats = new Float32Array(this.#slots.buffer);
  readonly #slotsAddress = addressOf(this.#slots);
  #partialSums = new Float64Array(64 * PARTIAL_SUMS);
  #partialSumsAddress = addressOf(this.#partialSums);

  private constructor(threads: number, runTeam: RunTeam, team: Team) {
    this.#threads = threads;
    this.#runTeam = runTeam;
    this.#team = team;
  }

  /** Throws where the CPU's instructions, libgomp or executable memory are missing. */
  static open(threads: number): VectorKernels {
    assert.ok(Number.isInteger(threads) && threads > 0, "a team has a thread");
    assertInstructions();
    const { runTeam, team } = loadOpenMp();
    const kernels = new VectorKernels(threads, runTeam, team);
    // Whether code may be made at all shows here rather than in the middle of a step.
    kernels.#kernelOf("squares", () => sumOfSquaresKernel(team));
    return kernels;
  }

  close(): void {
    for (const kernel of this.#kernels.values()) kernel.close();
    this.#kernels.clear();
  }

  /** out, f32 [images, blocks, 2, width]: sum(x - pivot) and sum((x - pivot)^2) over pixels. */
  moments(shape: ImageShape, x: number, pivot: number, out: number): void {
    const { width, type } = shape;
    const kernel = this.#kernelOf(`moments ${width} ${type}`, () =>
      momentsKernel(this.#team, { width, type }),
    );
    this.#run(kernel, imageWork(shape, [x, pivot, out]));
  }

  /** y = x * scale + shift (+ residual), rectified on request. y may be x or the residual. */
  normalise(
    shape: ImageShape,
    x: number,
    scale: number,
    shift: number,
    y: number,
    options: NormaliseOptions,
  ): void {
    const { width, type } = shape;
    const { relu } = options;
    const residual = options.residual === undefined ? [] : [options.residual];
    const kernel = this.#kernelOf(`normalise ${width} ${type} ${relu} ${residual.length}`, () =>
      normaliseKernel(this.#team, { width, type, relu, residual: residual.length > 0 }),
    );
    this.#run(kernel, imageWork(shape, [x, scale, shift, y, ...residual]));
  }

  /**
   * out, f32 [images, blocks, 2, width]: sum(d) and sum(d * (x - mean)) over pixels, where d is dy
   * where the mask passes, else 0.
   */
  backwardSums(
    shape: ImageShape,
    dy: number,
    x: number,
    mean: number,
    mask: ReluMask,
    out: number,
  ): void {
    const { width, type } = shape;
    const kernel = this.#kernelOf(`sums ${width} ${type} ${mask.kind}`, () =>
      backwardSumsKernel(this.#team, { width, type, mask: mask.kind }),
    );
    this.#run(kernel, imageWork(shape, [dy, x, mean, out, ...addressesOf(mask)]));
  }

  /**
   * dx = a * d + b * x + c with per-channel a, b and c; also stores d where an address for it is
   * given. dx and dResidual may be the addresses of dy or x.
   */
  backwardApply(
    shape: ImageShape,
    dy: number,
    x: number,
    a: number,
    b: number,
    c: number,
    mask: ReluMask,
    dx: number,
    dResidual?: number,
  ): void {
    const { width, type } = shape;
    const residual = dResidual === undefined ? [] : [dResidual];
    const kernel = this.#kernelOf(`apply ${width} ${type} ${mask.kind} ${residual.length}`, () =>
      backwardApplyKernel(this.#team, {
        width,
        type,
        mask: mask.kind,
        residual: residual.length > 0,
      }),
    );
    const addresses = [dy, x, dx, a, b, c, ...addressesOf(mask), ...residual];
    this.#run(kernel, imageWork(shape, addresses));
  }

  /** out = a + b; out may be a or b. */
  add(type: ElementType, count: number, a: number, b: number, out: number): void {
    const kernel = this.#kernelOf(`add ${type}`, () => addKernel(this.#team, { type }));
    this.#run(kernel, flatWork(count, [a, b, out]));
  }

  /** Rounds to nearest even where `types.to` is the narrower one. */
  convert(
    types: { readonly from: ElementType; readonly to: ElementType },
    count: number,
    from: number,
    to: number,
  ): void {
    const kernel = this.#kernelOf(`convert ${types.from} ${types.to}`, () =>
      convertKernel(this.#team, types),
    );
    this.#run(kernel, flatWork(count, [from, to]));
  }

  /** Sum of squares of f32 values, accumulated in float64. */
  sumOfSquares(count: number, values: number): number {
    const kernel = this.#kernelOf("squares", () => sumOfSquaresKernel(this.#team));
    const partialSums = Math.ceil(count / PIECE) * PARTIAL_SUMS;
    if (partialSums > this.#partialSums.length) {
      this.#partialSums = new Float64Array(2 * partialSums);
      this.#partialSumsAddress = addressOf(this.#partialSums);
    }
    this.#run(kernel, flatWork(count, [values, this.#partialSumsAddress]));
    let sum = 0;
    for (let i = 0; i < partialSums; i++) sum += this.#partialSums[i]!;
    return sum;
  }

  /**
   * One step of SGD on f32 arrays in place: d = step * (gradientScale * g + decay * w),
   * v = momentum * v + d, w -= nesterov ? d + momentum * v : v.
   */
  momentumStep(
    count: number,
    weight: number,
    velocity: number,
    gradient: number,
    options: MomentumOptions,
  ): void {
    const { step, gradientScale, decay, momentum, nesterov } = options;
    const kernel = this.#kernelOf(`momentum ${nesterov}`, () =>
      momentumKernel(this.#team, { nesterov }),
    );
    const scalars = [step, gradientScale, decay, momentum];
    this.#run(kernel, { ...flatWork(count, [weight, velocity, gradient]), scalars });
  }

  #kernelOf(key: string, write: () => Uint8Array): ExecutableMemory {
    let kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = ExecutableMemory.of(write());
      this.#kernels.set(key, kernel);
    }
    return kernel;
  }

  #run(kernel: ExecutableMemory, work: Work): void {
    const { items, blocks = 1, elements, addresses, scalars = [] } = work;
    if (items === 0) return;
    this.#setSlot(SLOT.items, items);
    this.#setSlot(SLOT.blocks, blocks);
    this.#setSlot(SLOT.elements, elements);
    for (let i = 0; i < addresses.length; i++) {
      assert.ok(addresses[i]! > 0, "an address is not null");
      this.#setSlot(SLOT.addresses + i, addresses[i]!);
    }
    for (let i = 0; i < scalars.length; i++) {
      this.#floats[(SLOT.scalars + i) * 2] = scalars[i]!;
    }
    // A team of one leaves the pool as it is; any other size ends or starts threads.
    const threads = items === 1 ? 1 : this.#threads;
    this.#runTeam(kernel.address, this.#slotsAddress, threads, 0);
  }

  /** In halves, since a 64-bit view would take a BigInt for each number. */
  #setSlot(slot: number, value: number): void {
    this.#slots[2 * slot] = value % 2 ** 32;
    this.#slots[2 * slot + 1] = value / 2 ** 32;
  }
}

function imageWork(shape: ImageShape, addresses: readonly number[]): Work {
  const { images, blocks, pixels, width } = shape;
  return { items: images * blocks, blocks, elements: pixels * width, addresses };
}

function flatWork(count: number, addresses: readonly number[]): Work {
  return { items: Math.ceil(count / PIECE), elements: count, addresses };
}

function addressesOf(mask: ReluMask): readonly number[] {
  if (mask.kind === "none") return [];
  return mask.kind === "output" ? [mask.y] : [mask.scale, mask.shift];
}

/** Of memory outside V8's heap, which does not move: large enough arrays have theirs there. */
function addressOf(array: Uint32Array | Float64Array): number {
  assert.ok(array.byteLength > 64, "V8 keeps small arrays in its heap");
  return Number(koffi.address(array));
}

function assertInstructions(): void {
  assert.equal(process.arch, "x64", "the kernels are x86-64 code");
  const flags = /^flags\s*:(.*)$/m.exec(fs.readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  const missing = ["avx2", "fma"].filter((flag) => !flags.split(" ").includes(flag));
  if (missing.length > 0) throw new Error(`the processor lacks ${missing.join(" and ")}`);
}
