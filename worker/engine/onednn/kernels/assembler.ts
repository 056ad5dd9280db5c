/**
 * Encodes the few x86-64 instructions that the kernels are made of: the general-purpose ones that
 * a loop needs, and AVX2 with FMA. Operands stand in Intel's order, the destination first; a
 * method's name is the mnemonic. Unless it says otherwise, a vector instruction works on all eight
 * lanes (ymm).
 */

import assert from "node:assert/strict";

/** A 64-bit general-purpose register. */
export interface Gp {
  readonly gp: number;
}

/** A vector register: ymm, or its lower half xmm where an instruction says so. */
export interface Vector {
  readonly vector: number;
}

/** The memory at base + index + offset. */
export interface Memory {
  readonly base: Gp;
  readonly index?: Gp;
  readonly offset: number;
}

/** A place in the code, which jumps may name before it is bound. */
export interface Label {
  position: number | undefined;
  /** Positions of the 32-bit distances that wait for the label. */
  readonly pending: number[];
}

export const GP = {
  rax: { gp: 0 },
  rcx: { gp: 1 },
  rdx: { gp: 2 },
  rbx: { gp: 3 },
  rsp: { gp: 4 },
  rbp: { gp: 5 },
  rsi: { gp: 6 },
  rdi: { gp: 7 },
  r8: { gp: 8 },
  r9: { gp: 9 },
  r10: { gp: 10 },
  r11: { gp: 11 },
  r12: { gp: 12 },
  r13: { gp: 13 },
  r14: { gp: 14 },
  r15: { gp: 15 },
} as const satisfies Record<string, Gp>;

/** When a jump is taken, after an unsigned comparison. */
const CONDITIONS = { below: 0x2, aboveOrEqual: 0x3 } as const;
export type Condition = keyof typeof CONDITIONS | "always";

/** Predicate of {@link Assembler.vcmpps}: first < second, false for NaN, quietly. */
export const LESS_THAN = 0x11;

/** What precedes the opcode of a VEX instruction, by the names of Intel's manual. */
interface Vex {
  readonly map: 1 | 2 | 3;
  /** 0: no prefix, 1: 66, 2: F3. */
  readonly prefix: 0 | 1 | 2;
  /** 0: xmm or scalar, 1: ymm. */
  readonly length: 0 | 1;
  readonly wide?: 1;
}

const PLAIN: Vex = { map: 1, prefix: 0, length: 1 };
const INTEGER: Vex = { map: 1, prefix: 1, length: 1 };
const SCALAR: Vex = { map: 1, prefix: 2, length: 0 };
const EXTENDED: Vex = { map: 2, prefix: 1, length: 1 };
const EXTRACTION: Vex = { map: 3, prefix: 1, length: 0 };

/** The second and third source of most vector instructions. */
type Operand = Vector | Memory;

export function vector(index: number): Vector {
  assert.ok(index >= 0 && index < 16, `there is no ymm${index}`);
  return { vector: index };
}

export function memory(base: Gp, offset = 0, index?: Gp): Memory {
  assert.notEqual(index, GP.rsp, "rsp cannot be an index");
  return index ? { base, index, offset } : { base, offset };
}

/** Collects machine code; {@link Assembler.code} gives it out once every label is bound. */
export class Assembler {
  readonly #bytes: number[] = [];
  readonly #labels: Label[] = [];

  code(): Uint8Array {
    for (const { position } of this.#labels) assert.ok(position !== undefined, "unbound label");
    return Uint8Array.from(this.#bytes);
  }

  label(): Label {
    const label: Label = { position: undefined, pending: [] };
    this.#labels.push(label);
    return label;
  }

  bind(label: Label): void {
    assert.equal(label.position, undefined, "a label is bound once");
    label.position = this.#bytes.length;
    for (const at of label.pending) {
      this.#bytes.splice(at, 4, ...littleEndian(label.position - (at + 4), 4));
    }
  }

  push(register: Gp): void {
    this.#short(0x50, register);
  }

  pop(register: Gp): void {
    this.#short(0x58, register);
  }

  ret(): void {
    this.#bytes.push(0xc3);
  }

  call(target: Gp): void {
    if (target.gp >= 8) this.#bytes.push(0x41);
    this.#bytes.push(0xff, 0xd0 | (target.gp & 7));
  }

  jump(condition: Condition, label: Label): void {
    if (condition === "always") this.#bytes.push(0xe9);
    else this.#bytes.push(0x0f, 0x80 | CONDITIONS[condition]);
    const at = this.#bytes.length;
    if (label.position === undefined) label.pending.push(at);
    this.#bytes.push(...littleEndian((label.position ?? at + 4) - (at + 4), 4));
  }

  mov(to: Gp, from: Gp | Memory): void {
    this.#general([0x8b], to.gp, from);
  }

  /** mov of a 64-bit constant. */
  movabs(to: Gp, value: number): void {
    assert.ok(Number.isSafeInteger(value) && value >= 0, "an unsigned constant");
    this.#short(0xb8, to, 0x48);
    this.#bytes.push(...littleEndian(value, 8));
  }

  /** mov of the lower 32 bits; clears the upper ones. */
  mov32(to: Gp, from: Gp): void {
    this.#general([0x8b], to.gp, from, 0);
  }

  /** xor of a register with itself, which makes all 64 bits 0. */
  clear(register: Gp): void {
    this.#general([0x33], register.gp, register, 0);
  }

  add(to: Gp, from: Gp | Memory | number): void {
    this.#arithmetic(0, to, from);
  }

  sub(to: Gp, from: Gp | Memory | number): void {
    this.#arithmetic(5, to, from);
  }

  cmp(a: Gp, b: Gp | Memory | number): void {
    this.#arithmetic(7, a, b);
  }

  imul(to: Gp, from: Gp | Memory): void {
    this.#general([0x0f, 0xaf], to.gp, from);
  }

  shl(register: Gp, bits: number): void {
    this.#general([0xc1], 4, register);
    this.#bytes.push(bits);
  }

  /** rax, rdx = quotient and remainder of rdx:rax by an unsigned divisor. */
  div(divisor: Gp): void {
    this.#general([0xf7], 6, divisor);
  }

  vzeroupper(): void {
    this.#bytes.push(0xc5, 0xf8, 0x77);
  }

  vmovups(to: Operand, from: Operand): void {
    if ("vector" in to) this.#vex(PLAIN, 0x10, to, undefined, from);
    else this.#vex(PLAIN, 0x11, vectorOf(from), undefined, to);
  }

  /** vmovups of four lanes (xmm) to memory. */
  vmovups128(to: Memory, from: Vector): void {
    this.#vex({ ...PLAIN, length: 0 }, 0x11, from, undefined, to);
  }

  /** Moves one lane; a load clears the others. */
  vmovss(to: Operand, from: Operand): void {
    if ("vector" in to) this.#vex(SCALAR, 0x10, to, undefined, from as Memory);
    else this.#vex(SCALAR, 0x11, vectorOf(from), undefined, to);
  }

  vbroadcastss(to: Vector, from: Memory): void {
    this.#vex(EXTENDED, 0x18, to, undefined, from);
  }

  vpbroadcastw(to: Vector, from: Memory): void {
    this.#vex(EXTENDED, 0x79, to, undefined, from);
  }

  /** Widens eight unsigned 16-bit numbers to 32 bits. */
  vpmovzxwd(to: Vector, from: Memory): void {
    this.#vex(EXTENDED, 0x33, to, undefined, from);
  }

  /** Widens four f32 to f64. */
  vcvtps2pd(to: Vector, from: Operand): void {
    this.#vex(PLAIN, 0x5a, to, undefined, from);
  }

  vaddps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x58, to, a, b);
  }

  vsubps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x5c, to, a, b);
  }

  vmulps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x59, to, a, b);
  }

  /** The larger of each pair of lanes; b where either is NaN. */
  vmaxps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x5f, to, a, b);
  }

  vandps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x54, to, a, b);
  }

  vxorps(to: Vector, a: Vector, b: Operand): void {
    this.#vex(PLAIN, 0x57, to, a, b);
  }

  /** All bits of a lane where the predicate holds, else none. */
  vcmpps(to: Vector, a: Vector, b: Operand, predicate: number): void {
    this.#vex(PLAIN, 0xc2, to, a, b, predicate);
  }

  vaddpd(to: Vector, a: Vector, b: Operand): void {
    this.#vex(INTEGER, 0x58, to, a, b);
  }

  /** a = a * b + c. */
  vfmadd213ps(a: Vector, b: Vector, c: Operand): void {
    this.#vex(EXTENDED, 0xa8, a, b, c);
  }

  /** a = b * c + a. */
  vfmadd231ps(a: Vector, b: Vector, c: Operand): void {
    this.#vex(EXTENDED, 0xb8, a, b, c);
  }

  /** a = b * c + a. */
  vfmadd231pd(a: Vector, b: Vector, c: Operand): void {
    this.#vex({ ...EXTENDED, wide: 1 }, 0xb8, a, b, c);
  }

  vpcmpeqd(to: Vector, a: Vector, b: Operand): void {
    this.#vex(INTEGER, 0x76, to, a, b);
  }

  vpaddd(to: Vector, a: Vector, b: Operand): void {
    this.#vex(INTEGER, 0xfe, to, a, b);
  }

  vpslld(to: Vector, from: Vector, bits: number): void {
    this.#vex(INTEGER, 0x72, vector(6), to, from, bits);
  }

  vpsrld(to: Vector, from: Vector, bits: number): void {
    this.#vex(INTEGER, 0x72, vector(2), to, from, bits);
  }

  /** Narrows four and four 32-bit numbers to 16 bits, saturated: a's, then b's (xmm). */
  vpackusdw128(to: Vector, a: Vector, b: Vector): void {
    this.#vex({ ...EXTENDED, length: 0 }, 0x2b, to, a, b);
  }

  /** Copies the upper half to a lower one. */
  vextracti128(to: Vector, from: Vector): void {
    this.#vex({ ...EXTRACTION, length: 1 }, 0x39, from, undefined, to, 1);
  }

  /** Stores the lowest 16 bits. */
  vpextrw(to: Memory, from: Vector): void {
    this.#vex(EXTRACTION, 0x15, from, undefined, to, 0);
  }

  /** Opcodes that hold their register. */
  #short(opcode: number, register: Gp, rex = 0): void {
    const prefix = rex | (register.gp >= 8 ? 0x41 : 0);
    if (prefix) this.#bytes.push(prefix);
    this.#bytes.push(opcode | (register.gp & 7));
  }

  /** add, sub and cmp are one instruction with a number for the operation. */
  #arithmetic(operation: number, to: Gp, from: Gp | Memory | number): void {
    if (typeof from !== "number") {
      this.#general([(operation << 3) | 0x03], to.gp, from);
      return;
    }
    const isShort = from >= -128 && from < 128;
    this.#general([isShort ? 0x83 : 0x81], operation, to);
    this.#bytes.push(...littleEndian(from, isShort ? 1 : 4));
  }

  #general(opcode: readonly number[], reg: number, rm: Gp | Memory, wide: 0 | 1 = 1): void {
    const { x, b } = extensionsOf(rm);
    const rex = (wide << 3) | ((reg >> 3) << 2) | (x << 1) | b;
    if (rex) this.#bytes.push(0x40 | rex);
    this.#bytes.push(...opcode);
    this.#operands(reg, rm);
  }

  /** `source` is the register that only VEX has room for. */
  #vex(
    vex: Vex,
    opcode: number,
    reg: Vector,
    source: Vector | undefined,
    rm: Operand,
    immediate?: number,
  ): void {
    const r = reg.vector >> 3;
    const { x, b } = extensionsOf(rm);
    const rest = ((15 - (source?.vector ?? 0)) << 3) | (vex.length << 2) | vex.prefix;
    if (vex.map === 1 && !vex.wide && !x && !b) this.#bytes.push(0xc5, ((1 - r) << 7) | rest);
    else {
      const inverted = ((1 - r) << 7) | ((1 - x) << 6) | ((1 - b) << 5);
      this.#bytes.push(0xc4, inverted | vex.map, ((vex.wide ?? 0) << 7) | rest);
    }
    this.#bytes.push(opcode);
    this.#operands(reg.vector, rm);
    if (immediate !== undefined) this.#bytes.push(immediate);
  }

  /** ModRM, SIB and displacement. */
  #operands(reg: number, rm: Gp | Operand): void {
    const high = (reg & 7) << 3;
    if (!("base" in rm)) {
      this.#bytes.push(0xc0 | high | (indexOf(rm) & 7));
      return;
    }
    const { base, index, offset } = rm;
    const low = base.gp & 7;
    // Base 5 without a displacement, and base 4 without a SIB, mean something else.
    const size = offset === 0 && low !== 5 ? 0 : offset >= -128 && offset < 128 ? 1 : 4;
    const mode = [0x00, 0x40, 0, 0, 0x80][size]!;
    if (index) this.#bytes.push(mode | high | 4, ((index.gp & 7) << 3) | low);
    else if (low === 4) this.#bytes.push(mode | high | 4, 0x24);
    else this.#bytes.push(mode | high | low);
    this.#bytes.push(...littleEndian(offset, size));
  }
}

function vectorOf(operand: Operand): Vector {
  assert.ok("vector" in operand, "memory cannot move to memory");
  return operand;
}

function indexOf(register: Gp | Vector): number {
  return "gp" in register ? register.gp : register.vector;
}

/** The fourth bits of the index and of the base or register. */
function extensionsOf(rm: Gp | Operand): { readonly x: number; readonly b: number } {
  if ("base" in rm) return { x: (rm.index?.gp ?? 0) >> 3, b: rm.base.gp >> 3 };
  return { x: 0, b: indexOf(rm) >> 3 };
}

/** Two's complement of any safe integer. */
function littleEndian(value: number, size: number): number[] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt(value), true);
  return [...bytes.subarray(0, size)];
}
