/**
 * What every kernel has around its arithmetic: the frame of a function that OpenMP runs on each
 * thread of a team, the arguments in memory, and loops over contiguous elements.
 *
 * Work is cut into items whose size does not depend on the team, and an item writes results of its
 * own; so neither does any result. Thread t of a team of T computes the items t, t + T, ...
 */

import assert from "node:assert/strict";
import { Assembler, GP, type Gp, type Memory, memory, type Vector, vector } from "./assembler.ts";
import { CODEC_REGISTERS_BEGIN } from "./elements.ts";

/** Addresses of the functions that tell a thread its place. */
export interface Team {
  readonly threadIndex: number;
  readonly threadCount: number;
}

/** A kernel's arguments are slots of 8 bytes, in this order. */
export const SLOT = {
  items: 0,
  /** Channel blocks of an image; item i has block i mod blocks. */
  blocks: 1,
  /** Of one image item, or of a whole flat array. */
  elements: 2,
  /** Up to 9 addresses. */
  addresses: 3,
  /** Up to 4 f32 numbers, each in the lower half of its slot. */
  scalars: 12,
} as const;
export const SLOT_BYTES = 8;
export const SLOTS = 16;

/** What holds where while an item is computed; rdx is free. */
const ARGUMENTS = GP.rbx;
const TEAM_SIZE = GP.r12;
export const ITEM = GP.r13;
/** Elements that are still to be computed. */
export const LEFT = GP.rcx;
/** Bytes from the beginning of an item's data. */
const OFFSET = GP.rax;
export const STREAMS: readonly Gp[] = [GP.rsi, GP.rdi, GP.r8, GP.r9, GP.r10];

/** The argument in a slot. */
export function argument(slot: number): Memory {
  assert.ok(slot < SLOTS, "a slot that exists");
  return memory(ARGUMENTS, slot * SLOT_BYTES);
}

/** The data at the loop's place in a stream, `bytes` further on. */
export function here(stream: Gp, bytes = 0): Memory {
  return memory(stream, bytes, OFFSET);
}

/** Hands out vector registers one after the other. */
export class Registers {
  #next = 0;

  take(): Vector {
    assert.ok(this.#next < CODEC_REGISTERS_BEGIN, "a kernel has too many values at once");
    return vector(this.#next++);
  }

  takeMany(count: number): Vector[] {
    return Array.from({ length: count }, () => this.take());
  }
}

/** A function void(void *arguments) that computes this thread's items by `emitItem`'s code. */
export function emitTeamFunction(team: Team, emitItem: (asm: Assembler) => void): Uint8Array {
  const asm = new Assembler();
  // An odd number of pushes aligns the stack for the calls.
  const kept = [ARGUMENTS, TEAM_SIZE, ITEM];
  for (const register of kept) asm.push(register);
  asm.mov(ARGUMENTS, GP.rdi);
  asm.movabs(GP.rax, team.threadCount);
  asm.call(GP.rax);
  asm.mov32(TEAM_SIZE, GP.rax);
  asm.movabs(GP.rax, team.threadIndex);
  asm.call(GP.rax);
  asm.mov32(ITEM, GP.rax);

  const next = asm.label();
  const end = asm.label();
  asm.bind(next);
  asm.cmp(ITEM, argument(SLOT.items));
  asm.jump("aboveOrEqual", end);
  emitItem(asm);
  asm.add(ITEM, TEAM_SIZE);
  asm.jump("always", next);
  asm.bind(end);
  asm.vzeroupper();
  for (const register of kept.toReversed()) asm.pop(register);
  asm.ret();
  return asm.code();
}

/** One body of a loop. */
export interface Step {
  /** That the body computes. */
  readonly elements: number;
  readonly emit: () => void;
}

/**
 * Walks over {@link LEFT} elements in the largest steps that fit, so steps come in falling order
 * and the last one divides every count. Inside, {@link here} is the place in each stream.
 */
export function emitSteps(asm: Assembler, elementBytes: number, steps: readonly Step[]): void {
  asm.clear(OFFSET);
  for (const { elements, emit } of steps) {
    const again = asm.label();
    const end = asm.label();
    asm.cmp(LEFT, elements);
    asm.jump("below", end);
    asm.bind(again);
    emit();
    asm.add(OFFSET, elements * elementBytes);
    asm.sub(LEFT, elements);
    asm.cmp(LEFT, elements);
    asm.jump("aboveOrEqual", again);
    asm.bind(end);
  }
}
