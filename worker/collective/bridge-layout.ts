/**
 * What the main thread and the engine thread share of a group: a control block of 32-bit words, and
 * the requests that cross the port.
 *
 *     word 0               OPEN or ENDED
 *     words 1 - SLOTS      one per operation under way: IDLE, PENDING, DONE or FAILED
 *     the last 64 bits     nanoseconds during which an all-reduce was under way
 *
 * The engine thread takes an idle slot, marks it pending, posts a request that names it and sleeps
 * on the word. The main thread posts the error first, if there is one, then sets the word and wakes
 * the sleeper. Only the engine thread makes a slot idle again. The time is set before the slot, so
 * whoever has waited for an all-reduce finds it counted.
 */

import type { MessagePort } from "node:worker_threads";
import type { PlainError } from "../../proto/errors.ts";
import type { SharedFloats } from "./process-group.ts";

/** Operations that may be under way at once. */
const SLOTS = 1024;

export const STATE_WORD = 0;
export const OPEN = 0;
export const ENDED = 1;

export const FIRST_SLOT = 1;
export const SLOT_END = FIRST_SLOT + SLOTS;
export const IDLE = 0;
export const PENDING = 1;
export const DONE = 2;
export const FAILED = 3;

const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;
const TIME_BYTES = BigInt64Array.BYTES_PER_ELEMENT;
/** 64-bit words have addresses that are multiples of their size. */
const TIME_AT = Math.ceil((SLOT_END * WORD_BYTES) / TIME_BYTES) * TIME_BYTES;

/** The engine thread's end of a group. Send it with `[link.port]` as the transfer list. */
export interface GroupLink {
  readonly port: MessagePort;
  readonly control: SharedArrayBuffer;
  readonly rank: number;
  readonly worldSize: number;
  /** Without a word from the main thread for this long it is taken for hung. */
  readonly silenceMs: number;
}

/** A part of the memory that the request numbered `allocation` allocated. */
export interface AllocatedFloats {
  readonly allocation: number;
  /** In bytes. */
  readonly offset: number;
  readonly length: number;
}

/** Engine thread to main thread. Buffers are shared, not copied. */
export type BridgeRequest = { readonly slot: number } & (
  | { readonly type: "allocate"; readonly length: number }
  | { readonly type: SumRequest; readonly buffer: SharedFloats | AllocatedFloats }
  | { readonly type: "all-gather"; readonly all: SharedFloats }
  | { readonly type: "broadcast"; readonly buffer: SharedFloats; readonly root: number }
  | { readonly type: "barrier" }
);
export type SumRequest = "all-reduce" | "reduce-scatter";

/** Main thread to engine thread: what an `allocate` gives. Sent before its slot is done. */
export interface BridgeAllocation {
  readonly floats: SharedFloats;
}

/** Main thread to engine thread: why the group has ended. Sent once, before any FAILED word. */
export interface BridgeFailure {
  readonly error: PlainError;
}

export function newControl(): SharedArrayBuffer {
  return new SharedArrayBuffer(TIME_AT + TIME_BYTES);
}

export function storeAllReduceSeconds(control: SharedArrayBuffer, seconds: number): void {
  Atomics.store(new BigInt64Array(control, TIME_AT), 0, BigInt(Math.round(seconds * 1e9)));
}

export function loadAllReduceSeconds(control: SharedArrayBuffer): number {
  return Number(Atomics.load(new BigInt64Array(control, TIME_AT), 0)) / 1e9;
}
