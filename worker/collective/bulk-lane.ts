/**
 * Ring operations, in the order in which they were started. Sending and receiving advance
 * separately: while the last chunks of one operation still come in, the next one already goes out.
 */

import {
  addFloats,
  packFloats,
  roundToWire,
  storeFloats,
  WIRE_BYTES,
  type Wire,
} from "./floats.ts";
import {
  BLOCK_BYTES,
  checkBlock,
  digestOf,
  encodeNotice,
  encodeShared,
  type Frame,
  type FrameHeader,
  type FrameScope,
  frameError,
  HEADER_BYTES,
  openFrame,
  sealFrame,
} from "./frame.ts";
import { CHUNK_BYTES, expectFrame } from "./frame-order.ts";
import { FramePool } from "./frame-pool.ts";
import {
  planAllReduce,
  planBroadcast,
  planReduceScatter,
  type Receive,
  type RingPlan,
  type SumKind,
} from "./ring.ts";
import type { SharedOutbox } from "./shared-slots.ts";
import { likesOf, type Overdue, type Waiter } from "./small-lane.ts";

/** How long chunks are worked off before what they made is let out. */
const TURN_MS = 2;

/** Frames that may wait before the predecessor's stream is held back. */
const EARLY_MAX = 8;

type RingKind = keyof typeof NAMES;

interface RingOperation {
  readonly kind: RingKind;
  readonly sequence: number;
  readonly buffer: Float32Array;
  readonly wire: Wire;
  readonly totalBytes: number;
  readonly plan: RingPlan;
  readonly waiter: Waiter;
  sent: number;
  received: number;
  /** When it came first in line; undefined before. */
  turnAt: number | undefined;
}

/** How far a rank has come in the ring operation whose turn it is. */
export interface RingProgress {
  readonly sequence: number;
  /** Chunks that it has yet to receive. */
  readonly pending: number;
}

export interface BulkLaneOptions {
  readonly worldSize: number;
  readonly scope: FrameScope;
  readonly wire: Wire;
  /** Tells every other rank, by the small lane, that this rank takes part in an operation. */
  readonly announce: (frame: Buffer) => void;
  /** Whether the successor takes more. */
  readonly isReady: () => boolean;
  /** The memory that the successor shares, if it does. */
  readonly outbox: () => SharedOutbox | undefined;
  /** Sends to the successor, and tells when the frame may be overwritten. */
  readonly send: (frame: Buffer, written: () => void) => void;
  /** A payload of the predecessor's that lay in shared memory has been read. */
  readonly taken: () => void;
  /** Lets the predecessor know how many. */
  readonly reportTaken: () => void;
  /** The predecessor has sent what cannot be used. */
  readonly refuse: (thrown: unknown) => void;
  /** Holds the predecessor's stream back, and lets it go on. */
  readonly pause: () => void;
  readonly resume: () => void;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

export class BulkLane {
  readonly #options: BulkLaneOptions;
  /** Not complete yet, in order. */
  readonly #operations: RingOperation[] = [];
  /** Per rank, its announcements that this rank has not matched yet. */
  readonly #announced = new Map<number, Frame[]>();
  /** Per rank, how many operations it has started. */
  readonly #startedBy: number[];
  /** Frames of operations that this rank has not started yet. The stream is paused behind them. */
  readonly #early: Frame[] = [];
  readonly #pool = new FramePool(HEADER_BYTES + CHUNK_BYTES);
  #nextSequence = 0;
  #nextTurn: NodeJS.Immediate | undefined;
  /** Whether the predecessor is. */
  #isHeldBack = false;
  /** Frames of this turn, whose payloads are in shared memory. */
  readonly #outgoing: Buffer[] = [];

  constructor(options: BulkLaneOptions) {
    this.#options = options;
    this.#startedBy = new Array<number>(options.worldSize).fill(0);
  }

  /**
   * For a reduce-scatter, `buffer` holds one equal part per rank. Frame errors are thrown as by
   * {@link SmallLane.start}.
   */
  sum(kind: SumKind, buffer: Float32Array, waiter: Waiter): void {
    const { wire } = this.#options;
    const size = { length: buffer.length, chunkFloats: CHUNK_BYTES / WIRE_BYTES[wire] };
    const plan = PLANS[kind](this.#place, size);
    this.#start(kind, buffer, wire, plan, waiter);
  }

  broadcast(buffer: Float32Array, root: number, waiter: Waiter): void {
    const size = { length: buffer.length, chunkFloats: CHUNK_BYTES / WIRE_BYTES.f32, root };
    // Always exact: what is broadcast is state, not a sum.
    this.#start("broadcast", buffer, "f32", planBroadcast(this.#place, size), waiter);
  }

  /** A frame from the predecessor. */
  accept(frame: Frame): void {
    this.#early.push(frame);
    this.#advance();
  }

  /** A `start-*` frame from any rank. */
  acceptStart(rank: number, frame: Frame): void {
    const started = this.#startedBy[rank] ?? 0;
    if (frame.sequence !== started) {
      const fault = frame.sequence < started ? "REPEATED" : "REORDERED";
      throw frameError(fault, `${frame.kind} ${frame.sequence}, ${started} is next`);
    }
    this.#startedBy[rank] = started + 1;
    const waiting = this.#announced.get(rank) ?? [];
    waiting.push(frame);
    this.#announced.set(rank, waiting);
    this.#matchAnnouncements();
  }

  /** The successor takes more. */
  drain(): void {
    this.#advance();
  }

  /** The operation whose turn it is, and the ranks that have not started it. */
  get oldest(): Overdue | undefined {
    const head = this.#operations[0];
    if (head?.turnAt === undefined) return undefined;
    const missing = [...this.#startedBy.keys()].filter(
      (rank) => rank !== this.#options.scope.source && this.#startedBy[rank]! <= head.sequence,
    );
    const likes = likesOf(head.kind, head.buffer.length);
    return { what: describe(head), likes, startedAt: head.turnAt, missing };
  }

  get progress(): RingProgress | undefined {
    const [head] = this.#operations;
    return head && { sequence: head.sequence, pending: head.plan.receives.length - head.received };
  }

  get isReceiving(): boolean {
    const due = this.#operations.map(({ received, plan }) => plan.receives.length - received);
    return due.reduce((sum, chunks) => sum + chunks, 0) > this.#early.length;
  }

  get isSending(): boolean {
    return this.#operations.some(({ sent, plan }) => sent < plan.sends.length);
  }

  fail(error: Error): void {
    for (const { waiter } of this.#operations) waiter.reject(error);
    this.#operations.length = 0;
    this.#early.length = 0;
    this.#outgoing.length = 0;
    clearImmediate(this.#nextTurn);
  }

  get #place() {
    return { rank: this.#options.scope.source, worldSize: this.#options.worldSize };
  }

  #start(kind: RingKind, buffer: Float32Array, wire: Wire, plan: RingPlan, waiter: Waiter): void {
    const sequence = this.#nextSequence++;
    const totalBytes = buffer.length * WIRE_BYTES[wire];
    const operation = { kind, sequence, buffer, wire, totalBytes, plan, waiter };
    this.#operations.push({ ...operation, sent: 0, received: 0, turnAt: undefined });
    const { scope, announce } = this.#options;
    announce(encodeNotice(scope, `start-${kind}`, { sequence, totalBytes }));
    this.#matchAnnouncements();
    this.#advance();
  }

  /** Every rank must start the same operations: one that does not is found before it hangs. */
  #matchAnnouncements(): void {
    for (const [rank, frames] of this.#announced) {
      while (frames[0] !== undefined && frames[0].sequence < this.#nextSequence) {
        const [frame] = frames.splice(0, 1);
        const own = this.#operations.find(({ sequence }) => sequence === frame?.sequence);
        if (own === undefined || frame === undefined) continue;
        if (frame.kind === `start-${own.kind}` && frame.totalBytes === own.totalBytes) continue;
        const theirs = `${frame.kind} of ${frame.totalBytes} bytes from rank ${rank}`;
        throw frameError("MISMATCHED", `${theirs} where this rank has ${describe(own)}`);
      }
    }
  }

  /**
   * Does a little now, and the rest bit by bit: what this rank sends leaves the process only
   * between two turns of the event loop, and the neighbours are not to wait meanwhile.
   */
  #advance(): void {
    if (this.#nextTurn !== undefined) return;
    const endAt = this.#options.now() + TURN_MS;
    let isBusy = this.#turn();
    while (isBusy && this.#options.now() < endAt) isBusy = this.#turn();
    this.#letOut();
    if (isBusy) {
      this.#nextTurn = setImmediate(() => {
        this.#nextTurn = undefined;
        this.#advance();
      });
    }
  }

  /** Takes one chunk in and lets one out. Returns whether there may be more to do. */
  #turn(): boolean {
    let hasReceived = false;
    try {
      hasReceived = this.#receiveNext();
    } catch (thrown) {
      this.#options.refuse(thrown);
      return false;
    }
    const hasSent = this.#sendNext();
    while (this.#operations[0] !== undefined && isComplete(this.#operations[0])) {
      this.#operations.shift()?.waiter.resolve();
    }
    const head = this.#operations[0];
    if (head !== undefined) head.turnAt ??= this.#options.now();
    return hasReceived || hasSent;
  }

  #receiveNext(): boolean {
    const frame = this.#early[0];
    const operation = this.#operations.find(
      ({ received, plan }) => received < plan.receives.length,
    );
    const isHeldBack = frame !== undefined && operation === undefined;
    this.#holdBack(isHeldBack || this.#early.length > EARLY_MAX);
    if (frame === undefined || operation === undefined) return false;
    this.#apply(operation, frame);
    this.#early.shift();
    operation.received++;
    return true;
  }

  #apply(operation: RingOperation, frame: Frame): void {
    const { plan, buffer, wire, kind, sequence, totalBytes } = operation;
    const move = plan.receives[operation.received]!;
    const { round, chunkIndex, chunkCount, begin, end } = move;
    const header = { kind, sequence, round, chunkIndex, chunkCount, totalBytes };
    const payloadBytes = (end - begin) * WIRE_BYTES[wire];
    expectFrame(frame, { ...header, dtype: wire, payloadBytes });
    const target = buffer.subarray(begin, end);
    if (frame.digests === undefined) {
      applyMove(move, wire, frame.payload, target);
      return;
    }
    // Block by block, so that what has been checked is still in the cache when it is added.
    forEachBlock(wire, frame.payload, target, (block, floats, index) => {
      checkBlock(frame, index, block);
      applyMove(move, wire, block, floats);
    });
    this.#options.taken();
  }

  #holdBack(isHeldBack: boolean): void {
    if (isHeldBack === this.#isHeldBack) return;
    this.#isHeldBack = isHeldBack;
    if (isHeldBack) this.#options.pause();
    else this.#options.resume();
  }

  #sendNext(): boolean {
    const operation = this.#operations.find(({ sent, plan }) => sent < plan.sends.length);
    if (operation === undefined || !this.#options.isReady()) return false;
    if (operation.received < operation.plan.sends[operation.sent]!.after) return false;
    const outbox = this.#options.outbox();
    if (outbox?.isReady === false) return false;
    if (outbox) this.#sendShared(operation, outbox);
    else this.#sendInline(operation);
    operation.sent++;
    return true;
  }

  #sendShared(operation: RingOperation, outbox: SharedOutbox): void {
    const { header, source, payloadBytes } = nextSend(operation);
    const slot = outbox.put(payloadBytes);
    const digests: Uint8Array[] = [];
    forEachBlock(operation.wire, slot.bytes, source, (block, floats) => {
      packFloats(operation.wire, floats, block);
      digests.push(digestOf(block));
    });
    const payload = { place: slot.place, bytes: payloadBytes, digests };
    this.#outgoing.push(encodeShared(this.#options.scope, header, payload));
  }

  /** Many small messages cost more than one: what was made in these turns leaves together. */
  #letOut(): void {
    if (this.#outgoing.length > 0) {
      this.#options.send(Buffer.concat(this.#outgoing), () => {});
      this.#outgoing.length = 0;
    }
    this.#options.reportTaken();
  }

  #sendInline(operation: RingOperation): void {
    const { header, source, payloadBytes } = nextSend(operation);
    const frame = this.#pool.take(HEADER_BYTES + payloadBytes);
    openFrame(frame, this.#options.scope, header);
    packFloats(operation.wire, source, frame.subarray(HEADER_BYTES));
    this.#options.send(sealFrame(frame), () => this.#pool.give(frame));
  }
}

function applyMove({ action }: Receive, wire: Wire, payload: Uint8Array, target: Float32Array) {
  if (action === "store") storeFloats(wire, payload, target);
  else addFloats(wire, payload, target);
  // The others will read the sum rounded: so must its owner.
  if (action === "finish") roundToWire(wire, target);
}

function forEachBlock(
  wire: Wire,
  payload: Uint8Array,
  floats: Float32Array,
  work: (block: Uint8Array, floats: Float32Array, index: number) => void,
): void {
  const step = BLOCK_BYTES / WIRE_BYTES[wire];
  for (let index = 0; index * BLOCK_BYTES < payload.length; index++) {
    const block = payload.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
    work(block, floats.subarray(index * step, (index + 1) * step), index);
  }
}

function nextSend({ plan, sent, buffer, wire, kind, sequence, totalBytes }: RingOperation) {
  const { round, chunkIndex, chunkCount, begin, end } = plan.sends[sent]!;
  const header: FrameHeader = {
    kind,
    dtype: wire,
    sequence,
    round,
    chunkIndex,
    chunkCount,
    totalBytes,
  };
  const payloadBytes = (end - begin) * WIRE_BYTES[wire];
  return { header, source: buffer.subarray(begin, end), payloadBytes };
}

function isComplete({ sent, received, plan }: RingOperation): boolean {
  return sent === plan.sends.length && received === plan.receives.length;
}

function describe({ kind, sequence, totalBytes, sent, received, plan }: RingOperation): string {
  const { receives, sends } = plan;
  const progress = `${received}/${receives.length} chunks in, ${sent}/${sends.length} out`;
  return `${NAMES[kind]} ${sequence} of ${totalBytes} bytes (${progress})`;
}

const PLANS = { reduce: planAllReduce, scatter: planReduceScatter } as const;

const NAMES = {
  reduce: "all-reduce",
  scatter: "reduce-scatter",
  broadcast: "broadcast",
} as const;
