/**
 * What the main thread and the engine thread share of a group: a control block of 32-bit words, and
 * the requests that cross the port.
 *
 *     word 0               OPEN or ENDED
 *     words 1 - SLOTS      one per operation under way: IDLE, PENDING, DONE or FAILED
 *     64-bit words at the end, see WORDS
 *
 * The engine thread takes an idle slot, marks it pending, posts a request that names it and sleeps
 * on the word. The main thread posts the error first, if there is one, then sets the word and wakes
 * the sleeper. Only the engine thread makes a slot idle again. The time is set before the slot, so
 * whoever has waited for an all-reduce finds it counted.
 */

import type { MessagePort } from "node:worker_threads";
import type { PlainError } from "../../proto/errors.ts";
import type { ExchangeLink } from "./exchange.ts";
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

/**
 * Places of the 64-bit words. The first is the main thread's: nanoseconds during which one of its
 * all-reduces was under way. The others are the engine thread's, about its exchange with those of
 * other ranks.
 */
const WORDS = {
  reduceNs: 0,
  /** Number of the operation in which it waits for others, from 1; 0 when it does not. */
  waitingIn: 1,
  /** Code of that operation's kind. */
  waitingKind: 2,
  /** Since when it waits, as of process.hrtime, and how long it may. */
  waitingSinceNs: 3,
  waitingMaxMs: 4,
  /** All-reduces so far, of how many bytes together, and how long they took. */
  exchangeReduces: 5,
  exchangeReduceBytes: 6,
  exchangeReduceNs: 7,
} as const;

export type LongWord = keyof typeof WORDS;

const LONG_BYTES = BigInt64Array.BYTES_PER_ELEMENT;
/** 64-bit words have addresses that are multiples of their size. */
const LONGS_AT = Math.ceil((SLOT_END * Int32Array.BYTES_PER_ELEMENT) / LONG_BYTES) * LONG_BYTES;

/** The engine thread's end of a group. Send it with `[link.port]` as the transfer list. */
export interface GroupLink {
  readonly port: MessagePort;
  readonly control: SharedArrayBuffer;
  readonly rank: number;
  readonly worldSize: number;
  /** Without a word from the main thread for this long it is taken for hung. */
  readonly silenceMs: number;
  /** Undefined where the ranks do not share memory. */
  readonly exchange: ExchangeLink | undefined;
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

/**
 * Main thread to engine thread: what an `allocate` gives, before its slot is done; or, once and
 * before any FAILED word, why the group has ended. The end may come right behind an allocation.
 */
export type BridgeReply =
  | { readonly type: "allocated"; readonly floats: SharedFloats }
  | { readonly type: "ended"; readonly error: PlainError };

export function newControl(): SharedArrayBuffer {
  return new SharedArrayBuffer(LONGS_AT + Object.keys(WORDS).length * LONG_BYTES);
}

export function loadLong(control: SharedArrayBuffer, word: LongWord): number {
  return Number(Atomics.load(new BigInt64Array(control, LONGS_AT), WORDS[word]));
}

export function storeLong(control: SharedArrayBuffer, word: LongWord, value: number): void {
  Atomics.store(new BigInt64Array(control, LONGS_AT), WORDS[word], BigInt(Math.round(value)));
}
