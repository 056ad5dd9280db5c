/** Kernels over flat arrays. A work item is a piece of fixed size, the last one what remains. */

import { type Assembler, GP, type Gp, type Memory, memory, type Vector } from "./assembler.ts";
import { codecOf, type ElementType } from "./elements.ts";
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

/** Elements of a work item. */
export const PIECE = 16384;
/** float64 numbers that {@link sumOfSquaresKernel} writes for each piece. */
export const PARTIAL_SUMS = 4;

const LANES = 8;
const ROUND = 4;

/** Addresses a, b, out. */
export function addKernel(team: Team, { type }: { readonly type: ElementType }): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const codec = codecOf(type, asm);
    const [a, b, out] = emitPiece(asm, codec.bytes, 3) as [Gp, Gp, Gp];
    const [left, right] = new Registers().takeMany(2) as [Vector, Vector];
    codec.prepare();
    const vectors = (count: number) => ({
      elements: count * LANES,
      emit: () => {
        for (let k = 0; k < count; k++) {
          const bytes = k * LANES * codec.bytes;
          codec.load(left, here(a, bytes));
          codec.load(right, here(b, bytes));
          asm.vaddps(left, left, right);
          codec.store(here(out, bytes), left);
        }
      },
    });
    const one = () => {
      codec.loadOne(left, here(a));
      codec.loadOne(right, here(b));
      asm.vaddps(left, left, right);
      codec.storeOne(here(out), left);
    };
    emitSteps(asm, codec.bytes, [vectors(ROUND), vectors(1), { elements: 1, emit: one }]);
  });
}

/** Addresses from, to. */
export function convertKernel(
  team: Team,
  types: { readonly from: ElementType; readonly to: ElementType },
): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const [source, target] = [codecOf(types.from, asm), codecOf(types.to, asm)];
    const narrow = Math.min(source.bytes, target.bytes);
    const streams = emitPiece(asm, narrow, 2);
    const [from, to] = streams as [Gp, Gp];
    const value = new Registers().take();
    const wide = [source, target]
      .map(({ bytes }, k) => ({ stream: streams[k]!, extra: bytes - narrow }))
      .filter(({ extra }) => extra > 0);
    // The loop's offset counts in the narrower type; the other stream itself moves by the rest.
    for (const { stream, extra } of wide) {
      for (let added = 0; added < extra; added += narrow) asm.add(stream, GP.rdx);
    }
    const moveOn = (elements: number): void => {
      for (const { stream, extra } of wide) asm.add(stream, elements * extra);
    };
    target.prepare();
    const vectors = (count: number) => ({
      elements: count * LANES,
      emit: () => {
        for (let k = 0; k < count; k++) {
          source.load(value, here(from, k * LANES * source.bytes));
          target.store(here(to, k * LANES * target.bytes), value);
        }
        moveOn(count * LANES);
      },
    });
    const one = () => {
      source.loadOne(value, here(from));
      target.storeOne(here(to), value);
      moveOn(1);
    };
    emitSteps(asm, narrow, [vectors(ROUND), vectors(1), { elements: 1, emit: one }]);
  });
}

/** Addresses values, out: {@link PARTIAL_SUMS} numbers for each piece. */
export function sumOfSquaresKernel(team: Team): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const bytes = 4;
    const half = LANES / 2;
    const [values] = emitPiece(asm, bytes, 1) as [Gp];
    const registers = new Registers();
    const sums = registers.takeMany(2 * ROUND);
    const value = registers.take();
    for (const sum of sums) asm.vxorps(sum, sum, sum);
    const square = (k: number, from: Vector | Memory): void => {
      asm.vcvtps2pd(value, from);
      asm.vfmadd231pd(sums[k]!, value, value);
    };
    const vectors = (count: number) => ({
      elements: count * half,
      emit: () => {
        for (let k = 0; k < count; k++) square(k, here(values, k * half * bytes));
      },
    });
    const one = () => {
      asm.vmovss(value, here(values));
      square(0, value);
    };
    emitSteps(asm, bytes, [vectors(2 * ROUND), vectors(1), { elements: 1, emit: one }]);
    for (const sum of sums.slice(1)) asm.vaddpd(sums[0]!, sums[0]!, sum);
    asm.mov(GP.rdx, ITEM);
    asm.shl(GP.rdx, Math.log2(PARTIAL_SUMS * 8));
    asm.add(GP.rdx, argument(SLOT.addresses + 1));
    asm.vmovups(memory(GP.rdx), sums[0]!);
  });
}

export interface MomentumVariant {
  readonly nesterov: boolean;
}

/** Addresses weight, velocity, gradient; scalars step, gradientScale, decay, momentum. */
export function momentumKernel(team: Team, { nesterov }: MomentumVariant): Uint8Array {
  return emitTeamFunction(team, (asm) => {
    const bytes = 4;
    const [weight, velocity, gradient] = emitPiece(asm, bytes, 3) as [Gp, Gp, Gp];
    const registers = new Registers();
    const scalars = registers.takeMany(4) as [Vector, Vector, Vector, Vector];
    for (const [s, scalar] of scalars.entries()) {
      asm.vbroadcastss(scalar, argument(SLOT.scalars + s));
    }
    const [step, gradientScale, decay, momentum] = scalars;
    const [w, v, d] = registers.takeMany(3) as [Vector, Vector, Vector];
    type Move = (to: Vector | Memory, from: Vector | Memory) => void;
    const update = (move: Move, offset: number): void => {
      move(d, here(gradient, offset));
      move(w, here(weight, offset));
      move(v, here(velocity, offset));
      asm.vmulps(d, d, gradientScale);
      asm.vfmadd231ps(d, decay, w);
      asm.vmulps(d, d, step);
      asm.vfmadd213ps(v, momentum, d);
      move(here(velocity, offset), v);
      if (nesterov) asm.vfmadd213ps(v, momentum, d);
      asm.vsubps(w, w, v);
      move(here(weight, offset), w);
    };
    const vectors = (count: number) => ({
      elements: count * LANES,
      emit: () => {
        for (let k = 0; k < count; k++) {
          update((to, from) => asm.vmovups(to, from), k * LANES * bytes);
        }
      },
    });
    const one = () => update((to, from) => asm.vmovss(to, from), 0);
    emitSteps(asm, bytes, [vectors(ROUND), vectors(1), { elements: 1, emit: one }]);
  });
}

/** Points streams at the item's piece of the first addresses, and counts its elements. */
function emitPiece(asm: Assembler, elementBytes: number, count: number): readonly Gp[] {
  const streams = STREAMS.slice(0, count);
  asm.mov(GP.rdx, ITEM);
  asm.shl(GP.rdx, Math.log2(PIECE));
  asm.mov(LEFT, argument(SLOT.elements));
  asm.sub(LEFT, GP.rdx);
  const isLast = asm.label();
  asm.cmp(LEFT, PIECE);
  asm.jump("below", isLast);
  asm.clear(LEFT);
  asm.add(LEFT, PIECE);
  asm.bind(isLast);
  asm.shl(GP.rdx, Math.log2(elementBytes));
  for (const [s, stream] of streams.entries()) {
    asm.mov(stream, argument(SLOT.addresses + s));
    asm.add(stream, GP.rdx);
  }
  return streams;
}
