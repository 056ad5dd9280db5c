/**
 * Kernels over images in channel blocks. A work item is one block of one image: contiguous pixels
 * of `width` channels, so that a channel stays in its lane and its parameters in their registers.
 */

import { type Assembler, GP, type Gp, LESS_THAN, memory, type Vector } from "./assembler.ts";
import { type Codec, codecOf, type ElementType } from "./elements.ts";
import {
  argument,
  emitSteps,
  emitTeamFunction,
  here,
  ITEM,
  LEFT,
  Registers,
  SLOT,
  STREAMS,
  type Team,
} from "./work-items.ts";

export interface ImageVariant {
  readonly width: 8 | 16;
  readonly type: ElementType;
}

type MaskKind = "none" | "output" | "input";

const LANES = 8;
const F32_BYTES = 4;
/** Vectors per turn of the loop: enough independent loads to keep the memory busy. */
const ROUND = 4;

/** Addresses x, pivot, out. */
export function momentsKernel(team: Team, variant: ImageVariant): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const image = new ImageItem(asm, variant);
    const x = image.stream(0);
    const pivot = image.channels(1);
    const [sums, squares] = [image.sums(ROUND), image.sums(ROUND)];
    const value = image.registers.take();
    image.forEachVector((k) => {
      image.load(value, x, k);
      asm.vsubps(value, value, of(pivot, k));
      asm.vaddps(of(sums, k), of(sums, k), value);
      asm.vfmadd231ps(of(squares, k), value, value);
    });
    image.storeSums(2, [sums, squares]);
  });
}

export interface NormaliseVariant extends ImageVariant {
  readonly relu: boolean;
  readonly residual: boolean;
}

/** Addresses x, scale, shift, y, residual. */
export function normaliseKernel(team: Team, variant: NormaliseVariant): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const image = new ImageItem(asm, variant);
    const x = image.stream(0);
    const [scale, shift] = [image.channels(1), image.channels(2)];
    const y = image.stream(3);
    const residual = variant.residual ? image.stream(4) : undefined;
    const zero = image.zero();
    const [value, added] = image.registers.takeMany(2) as [Vector, Vector];
    image.codec.prepare();
    image.forEachVector((k) => {
      image.load(value, x, k);
      asm.vfmadd213ps(value, of(scale, k), of(shift, k));
      if (residual) {
        image.load(added, residual, k);
        asm.vaddps(value, value, added);
      }
      // In this order a NaN passes.
      if (variant.relu) asm.vmaxps(value, zero, value);
      image.store(y, k, value);
    });
  });
}

export interface BackwardVariant extends ImageVariant {
  readonly mask: MaskKind;
}

/** Addresses dy, x, mean, out, then those of the mask: y, or scale and shift. */
export function backwardSumsKernel(team: Team, variant: BackwardVariant): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const image = new ImageItem(asm, variant);
    const [dy, x] = [image.stream(0), image.stream(1)];
    const mean = image.channels(2);
    const mask = new Mask(image, variant.mask, 4);
    // Registers for the mask's parameters are taken from the accumulators.
    const accumulators = variant.mask === "input" ? 2 : ROUND;
    const [sums, products] = [image.sums(accumulators), image.sums(accumulators)];
    const [value, d, passes] = image.registers.takeMany(3) as [Vector, Vector, Vector];
    image.forEachVector((k) => {
      image.load(value, x, k);
      mask.emit({ dy, d, x: value, passes }, k);
      asm.vsubps(value, value, of(mean, k));
      asm.vaddps(of(sums, k), of(sums, k), d);
      asm.vfmadd231ps(of(products, k), value, d);
    });
    image.storeSums(3, [sums, products]);
  });
}

export interface BackwardApplyVariant extends BackwardVariant {
  readonly residual: boolean;
}

/** Addresses dy, x, dx, a, b, c, then y or scale and shift of the mask, then dResidual. */
export function backwardApplyKernel(team: Team, variant: BackwardApplyVariant): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const image = new ImageItem(asm, variant);
    const [dy, x, dx] = [image.stream(0), image.stream(1), image.stream(2)];
    const [a, b, c] = [image.channels(3), image.channels(4), image.channels(5)];
    const mask = new Mask(image, variant.mask, 6);
    const afterMask = { none: 6, output: 7, input: 8 }[variant.mask];
    const dResidual = variant.residual ? image.stream(afterMask) : undefined;
    const [value, d, passes] = image.registers.takeMany(3) as [Vector, Vector, Vector];
    image.codec.prepare();
    image.forEachVector((k) => {
      image.load(value, x, k);
      mask.emit({ dy, d, x: value, passes }, k);
      asm.vfmadd213ps(value, of(b, k), of(c, k));
      asm.vfmadd231ps(value, of(a, k), d);
      image.store(dx, k, value);
      if (dResidual) image.store(dResidual, k, d);
    });
  });
}

/** Emits the parts of an item's code that the kernels share; begins with the item's place. */
class ImageItem {
  readonly asm: Assembler;
  readonly codec: Codec;
  readonly registers = new Registers();
  readonly #width: number;
  #streams = 0;

  constructor(asm: Assembler, { width, type }: ImageVariant) {
    this.asm = asm;
    this.codec = codecOf(type, asm);
    this.#width = width;
    // r11 = byte offset of the block's channels in a per-channel vector.
    asm.mov(GP.rax, ITEM);
    asm.clear(GP.rdx);
    asm.mov(LEFT, argument(SLOT.blocks));
    asm.div(LEFT);
    asm.mov(GP.r11, GP.rdx);
    asm.shl(GP.r11, Math.log2(width * F32_BYTES));
    // rax = byte offset of the item in an image.
    asm.mov(LEFT, argument(SLOT.elements));
    asm.mov(GP.rax, ITEM);
    asm.imul(GP.rax, LEFT);
    asm.shl(GP.rax, Math.log2(this.codec.bytes));
  }

  get #vectorsPerPixel(): number {
    return this.#width / LANES;
  }

  /** The item's part of an image. */
  stream(address: number): Gp {
    const register = STREAMS[this.#streams++]!;
    this.asm.mov(register, argument(SLOT.addresses + address));
    this.asm.add(register, GP.rax);
    return register;
  }

  /** Reads the block's part of a per-channel vector. */
  channels(address: number): Vector[] {
    this.asm.mov(GP.rdx, argument(SLOT.addresses + address));
    const values = this.registers.takeMany(this.#vectorsPerPixel);
    for (const [v, value] of values.entries()) {
      this.asm.vmovups(value, memory(GP.rdx, v * LANES * F32_BYTES, GP.r11));
    }
    return values;
  }

  zero(): Vector {
    const zero = this.registers.take();
    this.asm.vxorps(zero, zero, zero);
    return zero;
  }

  sums(count: number): Vector[] {
    return Array.from({ length: count }, () => this.zero());
  }

  load(to: Vector, stream: Gp, k: number): void {
    this.codec.load(to, here(stream, k * LANES * this.codec.bytes));
  }

  store(stream: Gp, k: number, from: Vector): void {
    this.codec.store(here(stream, k * LANES * this.codec.bytes), from);
  }

  /** Loops over the item; `emit` computes the vector k of a round, which is whole pixels. */
  forEachVector(emit: (k: number) => void): void {
    const step = (vectors: number) => ({
      elements: vectors * LANES,
      emit: () => {
        for (let k = 0; k < vectors; k++) emit(k);
      },
    });
    emitSteps(this.asm, this.codec.bytes, [step(ROUND), step(this.#vectorsPerPixel)]);
  }

  /** Adds up the accumulators of each lane and writes out[item] = [first, second]. */
  storeSums(address: number, pair: readonly [Vector[], Vector[]]): void {
    const { asm } = this;
    const vectors = this.#vectorsPerPixel;
    asm.mov(GP.rdx, ITEM);
    asm.shl(GP.rdx, Math.log2(2 * this.#width * F32_BYTES));
    asm.add(GP.rdx, argument(SLOT.addresses + address));
    for (const [p, sums] of pair.entries()) {
      for (let k = vectors; k < sums.length; k++) {
        asm.vaddps(sums[k % vectors]!, sums[k % vectors]!, sums[k]!);
      }
      for (let v = 0; v < vectors; v++) {
        asm.vmovups(memory(GP.rdx, (p * vectors + v) * LANES * F32_BYTES), sums[v]!);
      }
    }
  }
}

/** d = dy where the rectifier let the value pass, else 0. */
class Mask {
  readonly #image: ImageItem;
  readonly #zero: Vector | undefined;
  readonly #y: Gp | undefined;
  readonly #affine: { readonly scale: Vector[]; readonly shift: Vector[] } | undefined;

  constructor(image: ImageItem, kind: MaskKind, address: number) {
    this.#image = image;
    if (kind === "none") return;
    this.#zero = image.zero();
    if (kind === "output") this.#y = image.stream(address);
    else {
      this.#affine = { scale: image.channels(address), shift: image.channels(address + 1) };
    }
  }

  /** Leaves x alone and destroys `passes`. */
  emit(values: { dy: Gp; d: Vector; x: Vector; passes: Vector }, k: number): void {
    const { asm } = this.#image;
    const { dy, d, x, passes } = values;
    this.#image.load(d, dy, k);
    if (!this.#zero) return;
    if (this.#y) this.#image.load(passes, this.#y, k);
    if (this.#affine) {
      // The very instruction of the forward: any other rounds values near zero differently.
      asm.vmovups(passes, x);
      asm.vfmadd213ps(passes, of(this.#affine.scale, k), of(this.#affine.shift, k));
    }
    asm.vcmpps(passes, this.#zero, passes, LESS_THAN);
    asm.vandps(d, d, passes);
  }
}

/** The register for vector k of a round, where there may be fewer registers than vectors. */
function of(vectors: readonly Vector[], k: number): Vector {
  return vectors[k % vectors.length]!;
}
