/**
 * Small collectives between the engine threads of workers on one host, over memory that all of them
 * can read: no main thread, no message, and no system call where the ranks come at the same time.
 *
 * Each rank owns a piece of memory that the others only read:
 *
 *     word 0             how many operations it has posted
 *     words 16 - 23      per stage: kind, floats and sequence of the operation on it, and a spare
 *     from word 64       the stages
 *
 * A rank copies its part to a stage, posts it, waits until all others have posted theirs, and reads
 * them. Two stages are enough: who posts an operation has read all of the one before, and nobody
 * comes to the one after without having seen that post.
 *
 * The main threads watch over the peers meanwhile: see exchange-watch.ts.
 */

import assert from "node:assert/strict";
import { FleetError } from "../../proto/errors.ts";
import { Deadlines } from "./deadlines.ts";
import { sumInOrder, type Wire } from "./floats.ts";
import { frameError } from "./frame.ts";
import { type Futex, findFutex } from "./futex.ts";
import { inOrder } from "./host-operation.ts";
import type { SharedFloats } from "./process-group.ts";
import { sliceOf } from "./ring.ts";
import { findMemoryHost, type MemoryTicket, type SharedMemory } from "./shared-memory.ts";
import { likesOf, SMALL_REDUCE_BYTES } from "./small-lane.ts";

const STAGES = 2;
/** Of one rank's part. */
const STAGE_FLOATS = 128 * 1024;
const HEADERS_AT = 16;
const HEADER_WORDS = 4;
const STAGES_AT = 64;
/** Of one rank's piece. */
export const EXCHANGE_FLOATS = STAGES_AT + STAGES * STAGE_FLOATS;

/** The place is the code in memory. */
export const EXCHANGE_KINDS = ["all-gather", "all-reduce", "barrier"] as const;
export type ExchangeKind = (typeof EXCHANGE_KINDS)[number];

/** How often to look at a word before sleeping: some 20 microseconds; to be woken takes 50. */
const LOOKS = 10_000;
/** How long to sleep before looking whether the generation has ended. */
const NAP_MS = 20;

/** What the engine threads of one host need to reach one another. */
export interface ExchangeLink {
  /** This rank's piece of memory. */
  readonly floats: SharedFloats;
  /** Of every rank's piece. */
  readonly tickets: readonly MemoryTicket[];
  readonly wire: Wire;
  /** How long an operation may take; undefined leaves that to what its likes took. */
  readonly opTimeoutMs: number | undefined;
}

/** An operation in which this rank waits for others. */
export interface Waiting {
  readonly kind: ExchangeKind;
  readonly sequence: number;
  readonly limitMs: number;
}

export interface ExchangeOptions extends ExchangeLink {
  readonly rank: number;
  /** Told before this thread sleeps, and, with nothing, when it goes on. */
  readonly waiting: (waiting: Waiting | undefined) => void;
  /** Throws what has ended the generation, if something has. */
  readonly throwIfEnded: () => void;
  /** How long the main thread may take to end an operation that is overdue. */
  readonly silenceMs: number;
}

/** One rank's piece of memory. */
interface Piece {
  readonly words: Int32Array;
  readonly stages: readonly Float32Array[];
}

/** How many operations the rank of this piece has posted. */
export function postedIn(piece: Float32Array): number {
  return Atomics.load(wordsOf(piece), 0);
}

/** One rank's end of it, on its engine thread. */
export class Exchange {
  readonly #options: ExchangeOptions;
  readonly #futex: Futex;
  readonly #opened: SharedMemory[] = [];
  readonly #pieces: readonly Piece[];
  readonly #deadlines: Deadlines;
  #posted = 0;
  #waitedMs = 0;

  /**
   * @throws {FleetError} GENERATION_ABORTED when a rank's memory is gone, which the main thread had
   *   open before
   */
  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#deadlines = new Deadlines(options.opTimeoutMs);
    const host = findMemoryHost();
    const futex = findFutex();
    assert.ok(futex, "there is no exchange without one");
    const pieces = options.tickets.map((ticket, rank) => {
      if (rank === options.rank) return host?.plainViewOf(options.floats);
      const memory = host?.open(ticket);
      if (memory === undefined) return undefined;
      this.#opened.push(memory);
      return new Float32Array(memory.data.buffer, memory.data.byteOffset, EXCHANGE_FLOATS);
    });
    if (pieces.includes(undefined)) {
      this.close();
      const text = `the memory of rank ${pieces.indexOf(undefined)} cannot be opened any more`;
      throw new FleetError("GENERATION_ABORTED", text);
    }
    this.#futex = futex;
    this.#pieces = pieces.map((floats) => pieceOf(floats!));
  }

  /** Whether parts of so many floats go this way. */
  fits(floats: number): boolean {
    return floats <= STAGE_FLOATS;
  }

  allGather(own: Float32Array): Float32Array {
    const all = new Float32Array(own.length * this.#pieces.length);
    this.#run("all-gather", own, (parts) => {
      for (const [rank, part] of parts.entries()) all.set(part, rank * own.length);
    });
    return all;
  }

  /** How long this rank has waited for others to come. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  barrier(): void {
    this.#run("barrier", new Float32Array(0), () => {});
  }

  /** To the same bits as any other way: small sums in rank order, larger ones as in the ring. */
  allReduce(buffer: SharedFloats): void {
    this.#run("all-reduce", buffer, (parts) => {
      if (buffer.byteLength <= SMALL_REDUCE_BYTES) sumInOrder("f32", parts, buffer, "exact");
      else sumSlices(this.#options.wire, parts, buffer);
    });
  }

  /** No operation may follow. */
  close(): void {
    for (const memory of this.#opened) memory.close();
    this.#opened.length = 0;
  }

  /** @param read gets every rank's part, in rank order, valid while it runs */
  #run(
    kind: ExchangeKind,
    own: Float32Array,
    read: (parts: readonly Float32Array[]) => void,
  ): void {
    this.#options.throwIfEnded();
    const likes = likesOf(kind, own.length);
    const startedAt = performance.now();
    const sequence = this.#post(kind, own);
    this.#awaitPosts({ kind, sequence, limitMs: this.#deadlines.limitOf(likes) });
    const tookMs = performance.now() - startedAt;
    this.#deadlines.record(likes, tookMs);
    this.#waitedMs += tookMs;
    const stage = sequence % STAGES;
    this.#assertSame(kind, own.length, sequence);
    read(this.#pieces.map(({ stages }) => stages[stage]!.subarray(0, own.length)));
  }

  #post(kind: ExchangeKind, own: Float32Array): number {
    const sequence = this.#posted++;
    const stage = sequence % STAGES;
    const { words, stages } = this.#pieces[this.#options.rank]!;
    stages[stage]!.set(own);
    words.set([EXCHANGE_KINDS.indexOf(kind), own.length, sequence], headerAt(stage));
    Atomics.store(words, 0, this.#posted);
    this.#futex.wake(words);
    return sequence;
  }

  /** @throws {FleetError} UNEXPECTED when nobody ends an operation that is overdue */
  #awaitPosts(operation: Waiting): void {
    const { waiting, throwIfEnded, silenceMs } = this.#options;
    const hasPosted = ({ words }: Piece) => Atomics.load(words, 0) > operation.sequence;
    let rank = 0;
    for (let look = 0; look < LOOKS; look++) {
      while (rank < this.#pieces.length && hasPosted(this.#pieces[rank]!)) rank++;
      if (rank === this.#pieces.length) return;
    }
    const endAt = performance.now() + operation.limitMs + silenceMs;
    waiting(operation);
    try {
      for (const { words } of this.#pieces) {
        for (let seen = Atomics.load(words, 0); seen <= operation.sequence; ) {
          throwIfEnded();
          if (performance.now() > endAt) {
            throw new FleetError("UNEXPECTED", "the main thread does not answer");
          }
          this.#futex.wait(words, seen, NAP_MS);
          seen = Atomics.load(words, 0);
        }
      }
    } finally {
      waiting(undefined);
    }
  }

  /** @throws {FleetError} GENERATION_ABORTED, MISMATCHED: the ranks have diverged */
  #assertSame(kind: ExchangeKind, floats: number, sequence: number): void {
    const at = headerAt(sequence % STAGES);
    for (const [rank, { words }] of this.#pieces.entries()) {
      const [code = -1, theirs, theirSequence] = words.subarray(at, at + HEADER_WORDS);
      const isSame = EXCHANGE_KINDS[code] === kind && theirs === floats;
      if (isSame && theirSequence === sequence) continue;
      const said = `${EXCHANGE_KINDS[code]} ${theirSequence} of ${theirs} floats`;
      const own = `${kind} ${sequence} of ${floats}`;
      throw frameError("MISMATCHED", `rank ${rank} posts ${said} where this rank has ${own}`);
    }
  }
}

function sumSlices(wire: Wire, parts: readonly Float32Array[], target: Float32Array): void {
  for (const last of parts.keys()) {
    const { begin, end } = sliceOf(last + 1, parts.length, target.length);
    const addends = inOrder(parts, last).map((part) => part.subarray(begin, end));
    sumInOrder(wire, addends, target.subarray(begin, end), "rounded");
  }
}

function pieceOf(floats: Float32Array): Piece {
  const stages = Array.from({ length: STAGES }, (_, stage) => {
    const begin = STAGES_AT + stage * STAGE_FLOATS;
    return floats.subarray(begin, begin + STAGE_FLOATS);
  });
  return { words: wordsOf(floats), stages };
}

function wordsOf({ buffer, byteOffset }: Float32Array): Int32Array {
  return new Int32Array(buffer, byteOffset, STAGES_AT);
}

function headerAt(stage: number): number {
  return HEADERS_AT + HEADER_WORDS * stage;
}
