/** How kernels read and write numbers of either type: registers always hold f32. */

import { type Assembler, type Memory, type Vector, vector } from "./assembler.ts";

/** How images and flat arrays store their numbers; bf16 is the upper half of an f32. */
export type ElementType = "f32" | "bf16";

/** Moves elements between memory and f32 lanes. */
export interface Codec {
  /** Of one element. */
  readonly bytes: 2 | 4;
  /** Fills the registers that stores read; once, before the first store. */
  prepare(): void;
  /** Eight elements. */
  load(to: Vector, from: Memory): void;
  /** Eight elements, rounded to nearest even; may destroy `from`. */
  store(to: Memory, from: Vector): void;
  /** One element; the other lanes are of no meaning. */
  loadOne(to: Vector, from: Memory): void;
  /** The first lane; may destroy `from`. */
  storeOne(to: Memory, from: Vector): void;
}

/** Registers from here on belong to the codec. */
export const CODEC_REGISTERS_BEGIN = 14;
const SCRATCH = vector(14);
const HALF = vector(15);

export function codecOf(type: ElementType, asm: Assembler): Codec {
  return type === "f32" ? f32Codec(asm) : bf16Codec(asm);
}

function f32Codec(asm: Assembler): Codec {
  return {
    bytes: 4,
    prepare: () => {},
    load: (to, from) => asm.vmovups(to, from),
    store: (to, from) => asm.vmovups(to, from),
    loadOne: (to, from) => asm.vmovss(to, from),
    storeOne: (to, from) => asm.vmovss(to, from),
  };
}

/**
 * Rounds by adding just under half of the last bit that stays, 0x7fff, and one more where that
 * last bit is set: a tie then carries into odd numbers only. An overflow becomes infinity, and the
 * NaNs that arithmetic makes stay NaN, since their mantissas do not end in ones.
 */
function bf16Codec(asm: Assembler): Codec {
  const round = (v: Vector): void => {
    asm.vpslld(SCRATCH, v, 15);
    asm.vpsrld(SCRATCH, SCRATCH, 31);
    asm.vpaddd(v, v, HALF);
    asm.vpaddd(v, v, SCRATCH);
    asm.vpsrld(v, v, 16);
  };
  return {
    bytes: 2,
    prepare: () => {
      asm.vpcmpeqd(HALF, HALF, HALF);
      asm.vpsrld(HALF, HALF, 17);
    },
    load: (to, from) => {
      asm.vpmovzxwd(to, from);
      asm.vpslld(to, to, 16);
    },
    store: (to, from) => {
      round(from);
      asm.vextracti128(SCRATCH, from);
      asm.vpackusdw128(from, from, SCRATCH);
      asm.vmovups128(to, from);
    },
    loadOne: (to, from) => {
      asm.vpbroadcastw(to, from);
      asm.vpslld(to, to, 16);
    },
    storeOne: (to, from) => {
      round(from);
      asm.vpextrw(to, from);
    },
  };
}
