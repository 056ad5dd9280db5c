/**
 * One-hop exchanges: every rank sends its part to all others, and has the result as soon as all
 * parts are there. No request, no second hop: latency is what counts.
 */

import { addFloats, bytesOf } from "./floats.ts";
import { encodeFrame, type Frame, type FrameScope, frameError } from "./frame.ts";
import { CHUNK_BYTES, chunkCountOf, PartOrder } from "./frame-order.ts";

/** Up to this size an all-reduce is one hop to everyone rather than 2 (W - 1) hops. */
export const SMALL_REDUCE_BYTES = 32 * 1024;

export type PartKind = "gather" | "sum" | "barrier";

interface Exchange {
  readonly kind: PartKind;
  /** One part per rank. */
  readonly all: Float32Array;
  readonly partBytes: number;
  readonly missing: Set<number>;
  readonly startedAt: number;
  readonly waiter: Waiter;
}

/** Whoever started an operation. Exactly one of the two is called, in the end. */
export interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * An operation that may be taking too long: with its limit, or, as of {@link likesOf}, with what it
 * is to be compared with.
 */
export type Overdue = OverdueFacts & ({ readonly likes: string } | { readonly limitMs: number });

interface OverdueFacts {
  readonly what: string;
  /** Milliseconds. */
  readonly startedAt: number;
  /** The ranks that have not begun, as far as that is known. */
  readonly missing: readonly number[];
}

/** What an operation has in common with those whose durations it is judged by. */
export function likesOf(kind: string, length: number): string {
  return `${kind} of ${length} floats`;
}

export interface SmallLaneOptions {
  readonly worldSize: number;
  readonly scope: FrameScope;
  /** Sends a frame to every other rank. */
  readonly send: (frame: Buffer) => void;
}

export class SmallLane {
  readonly #options: SmallLaneOptions;
  /** Under way on this rank, by sequence, oldest first. */
  readonly #exchanges = new Map<number, Exchange>();
  readonly #orders = new Map<number, PartOrder>();
  /** Per rank, frames of operations that this rank has not started yet, in order. */
  readonly #early = new Map<number, Frame[]>();
  #nextSequence = 0;

  constructor(options: SmallLaneOptions) {
    this.#options = options;
    for (let rank = 0; rank < options.worldSize; rank++) {
      if (rank === options.scope.source) continue;
      this.#orders.set(rank, new PartOrder());
      this.#early.set(rank, []);
    }
  }

  /**
   * Fills in the other ranks' parts of `all`; own part, at place `rank`, is there already.
   *
   * @throws {FleetError} GENERATION_ABORTED when another rank does something else here; the
   *   operation is then pending, for `fail` to end
   */
  start(kind: PartKind, all: Float32Array, startedAt: number, waiter: Waiter): void {
    const sequence = this.#nextSequence++;
    const { worldSize, scope } = this.#options;
    const partLength = all.length / worldSize;
    const own = all.subarray(scope.source * partLength, (scope.source + 1) * partLength);
    const missing = new Set(this.#orders.keys());
    const partBytes = own.byteLength;
    this.#exchanges.set(sequence, { kind, all, partBytes, missing, startedAt, waiter });
    this.#send(kind, sequence, own);
    this.#complete(sequence);
    for (const rank of this.#early.keys()) this.#applyEarly(rank);
  }

  /** A frame from `rank`, in the order in which it was sent. */
  accept(rank: number, frame: Frame): void {
    this.#orders.get(rank)?.accept(frame);
    if (frame.sequence < this.#nextSequence) this.#apply(rank, frame);
    else this.#early.get(rank)?.push(frame);
  }

  /** The operation that has waited longest, and the ranks it waits for. */
  get oldest(): Overdue | undefined {
    for (const [sequence, { kind, all, startedAt, missing }] of this.#exchanges) {
      const what = `${NAMES[kind]} ${sequence}`;
      return { what, likes: likesOf(kind, all.length), startedAt, missing: [...missing] };
    }
    return undefined;
  }

  /** Whether an operation under way lacks the part of `rank`. */
  awaits(rank: number): boolean {
    return [...this.#exchanges.values()].some(({ missing }) => missing.has(rank));
  }

  fail(error: Error): void {
    for (const { waiter } of this.#exchanges.values()) waiter.reject(error);
    this.#exchanges.clear();
    for (const frames of this.#early.values()) frames.length = 0;
  }

  #send(kind: PartKind, sequence: number, own: Float32Array): void {
    const bytes = bytesOf(own);
    const totalBytes = bytes.byteLength;
    const chunkCount = chunkCountOf(totalBytes);
    for (let chunkIndex = 0; chunkIndex < chunkCount; chunkIndex++) {
      const begin = chunkIndex * CHUNK_BYTES;
      const header = { kind, sequence, round: 0, chunkIndex, chunkCount, totalBytes };
      const payload = bytes.subarray(begin, begin + CHUNK_BYTES);
      this.#options.send(encodeFrame(this.#options.scope, { ...header, dtype: "f32" }, payload));
    }
  }

  #applyEarly(rank: number): void {
    const frames = this.#early.get(rank) ?? [];
    while (frames[0] !== undefined && frames[0].sequence < this.#nextSequence) {
      this.#apply(rank, frames[0]);
      frames.shift();
    }
  }

  #apply(rank: number, frame: Frame): void {
    const exchange = this.#exchanges.get(frame.sequence);
    if (exchange === undefined) return;
    const { kind, all, partBytes, missing } = exchange;
    if (frame.kind !== kind || frame.totalBytes !== partBytes) {
      const theirs = `${frame.kind} of ${frame.totalBytes} bytes`;
      const text = `${theirs} from rank ${rank} where this rank has a ${kind} of ${partBytes}`;
      throw frameError("MISMATCHED", text);
    }
    bytesOf(all).set(frame.payload, rank * partBytes + frame.chunkIndex * CHUNK_BYTES);
    if (frame.chunkIndex < frame.chunkCount - 1) return;
    missing.delete(rank);
    this.#complete(frame.sequence);
  }

  #complete(sequence: number): void {
    const exchange = this.#exchanges.get(sequence);
    if (exchange === undefined || exchange.missing.size > 0) return;
    this.#exchanges.delete(sequence);
    exchange.waiter.resolve();
  }
}

const NAMES = {
  gather: "all-gather",
  sum: "small all-reduce",
  barrier: "barrier",
} as const satisfies Record<PartKind, string>;

/** Sums the parts of `all` into `sum`, in rank order. */
export function sumParts(all: Float32Array, sum: Float32Array): void {
  sum.set(all.subarray(0, sum.length));
  for (let begin = sum.length; begin < all.length; begin += sum.length) {
    addFloats("f32", bytesOf(all.subarray(begin, begin + sum.length)), sum);
  }
}
