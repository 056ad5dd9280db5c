/**
 * Sums over memory that all ranks of a gang share because they are on one host: see host-memory.ts.
 * Nothing is sent but notices. What each rank does in one operation:
 *
 *   1. says `share`: its addends lie ready, and it leaves them alone;
 *   2. when all have said so, adds up one slice of the buffer over all ranks, in its own memory,
 *      and says `summed` as it goes on, chunk by chunk;
 *   3. copies the other slices from the ranks that have summed them;
 *   4. says `copied`: it reads nothing more of the others' memory;
 *   5. is done when all the others have said so.
 *
 * A slice of a rank's memory is read by one other rank only until that rank has said `summed`, and
 * written by its owner only afterwards. So nothing needs to be copied aside.
 *
 * Slices are cut, and their addends added and rounded, as the ring does it: which way a sum takes
 * makes no difference to its bits.
 */

import type { BulkLaneOptions } from "./bulk-lane.ts";
import { sumInOrder } from "./floats.ts";
import {
  encodeFrame,
  encodeNotice,
  type Frame,
  type FrameKind,
  frameError,
  readJson,
} from "./frame.ts";
import type { HostPlace } from "./host-memory.ts";
import {
  chunkAt,
  chunksOf,
  type HostOperation,
  inOrder,
  isOver,
  matchShare,
  missingSlices,
  newOperation,
  type Share,
  totalBytesOf,
} from "./host-operation.ts";
import type { SumKind } from "./ring.ts";
import { likesOf, type Overdue, type Waiter } from "./small-lane.ts";

/** How long chunks are worked off before what they made is let out. */
const TURN_MS = 4;

export type HostLaneOptions = Pick<
  BulkLaneOptions,
  "worldSize" | "scope" | "wire" | "announce" | "now"
>;

/** Whether frames of this kind are for {@link HostLane.accept}. */
export function isOfHostLane(kind: FrameKind): boolean {
  return kind === "share" || kind === "summed" || kind === "copied";
}

export class HostLane {
  readonly #options: HostLaneOptions;
  /** Those of which some rank still has something to say, in order. */
  #operations: readonly HostOperation[] = [];
  /** Per rank, its shares of operations that this rank has not started yet. */
  readonly #early: Partial<Share>[][];
  /** Per rank, how many operations it has shared in. */
  readonly #sharedBy: number[];
  #nextSequence = 0;
  #nextTurn: NodeJS.Immediate | undefined;

  constructor(options: HostLaneOptions) {
    this.#options = options;
    this.#early = Array.from({ length: options.worldSize }, () => []);
    this.#sharedBy = this.#early.map(() => 0);
  }

  /**
   * For a reduce-scatter, the place holds one equal part per rank. Frame errors are thrown as by
   * {@link SmallLane.start}.
   */
  start(kind: SumKind, { memory, begin, length }: HostPlace, waiter: Waiter): void {
    const operation = newOperation({
      rank: this.#rank,
      worldSize: this.#options.worldSize,
      sequence: this.#nextSequence++,
      share: { kind, memory: memory.id, begin, length },
      memory,
      waiter,
    });
    this.#operations = [...this.#operations, operation];
    const { scope, announce } = this.#options;
    const { sequence, share } = operation;
    const totalBytes = totalBytesOf(operation);
    announce(encodeNotice(scope, "share", { sequence, totalBytes, json: share }));
    for (const [rank, shares] of this.#early.entries()) {
      const theirs = shares.shift();
      if (theirs !== undefined) matchShare(operation, rank, theirs);
    }
    this.#advance();
  }

  /** `share`, `summed` or `copied` of a rank, in the order in which it was sent. */
  accept(rank: number, frame: Frame): void {
    if (frame.kind === "share") this.#acceptShare(rank, frame);
    else if (frame.kind === "summed") this.#acceptSummed(rank, frame);
    else this.#acceptCopied(rank, frame);
    this.#advance();
  }

  /** The operation that has waited longest, and the ranks it waits for. */
  get oldest(): Overdue | undefined {
    const [head] = this.#operations;
    if (head?.turnAt === undefined) return undefined;
    const { kind, length } = head.share;
    const what = `${NAMES[kind]} ${head.sequence} of ${totalBytesOf(head)} bytes`;
    const likes = likesOf(kind, length);
    return { what, likes, startedAt: head.turnAt, missing: [...missingFrom(head)] };
  }

  /** Whether an operation under way lacks something of `rank`. */
  awaits(rank: number): boolean {
    return this.#operations.some((operation) => missingFrom(operation).has(rank));
  }

  fail(error: Error): void {
    for (const { waiter } of this.#operations) waiter.reject(error);
    this.#operations = [];
    for (const shares of this.#early) shares.length = 0;
    clearImmediate(this.#nextTurn);
  }

  get #rank(): number {
    return this.#options.scope.source;
  }

  #acceptShare(rank: number, frame: Frame): void {
    const next = this.#sharedBy[rank]!;
    if (frame.sequence !== next) {
      const fault = frame.sequence < next ? "REPEATED" : "REORDERED";
      throw frameError(fault, `share ${frame.sequence}, ${next} is next`);
    }
    this.#sharedBy[rank] = next + 1;
    const share = readJson<Share>(frame);
    if (frame.sequence >= this.#nextSequence) this.#early[rank]!.push(share);
    else matchShare(this.#operationOf(frame), rank, share);
  }

  #acceptSummed(rank: number, frame: Frame): void {
    const operation = this.#operationOf(frame);
    if (operation.unshared.has(rank)) {
      throw frameError("REORDERED", `summed ${frame.sequence} before shared`);
    }
    const chunks = chunksOf(operation, rank);
    if (frame.chunkCount !== chunks || frame.totalBytes !== totalBytesOf(operation)) {
      const text = `${frame.chunkCount} chunks of ${frame.totalBytes} bytes, expected ${chunks}`;
      throw frameError("MISMATCHED", text);
    }
    const next = operation.summed[rank]!;
    if (frame.chunkIndex < next) {
      throw frameError("REPEATED", `chunk ${frame.chunkIndex} summed, ${next} is next`);
    }
    operation.summed[rank] = frame.chunkIndex + 1;
  }

  #acceptCopied(rank: number, frame: Frame): void {
    const { uncopied, unshared } = this.#operationOf(frame);
    if (unshared.has(rank)) throw frameError("REORDERED", `copied ${frame.sequence} before shared`);
    if (!uncopied.delete(rank)) throw frameError("REPEATED", `copied ${frame.sequence} twice`);
  }

  /** The operation that a frame is about, which is neither over nor to come. */
  #operationOf(frame: Frame): HostOperation {
    const operation = this.#operations.find(({ sequence }) => sequence === frame.sequence);
    if (operation !== undefined) return operation;
    const fault = frame.sequence < this.#nextSequence ? "REPEATED" : "REORDERED";
    throw frameError(fault, `${frame.kind} ${frame.sequence}, ${this.#nextSequence} comes next`);
  }

  /** Does a little now, and the rest bit by bit: what is said leaves the process in between. */
  #advance(): void {
    if (this.#nextTurn !== undefined) return;
    const endAt = this.#options.now() + TURN_MS;
    let isBusy = this.#turn();
    while (isBusy && this.#options.now() < endAt) isBusy = this.#turn();
    for (const operation of this.#operations) this.#tell(operation);
    this.#settle();
    if (!isBusy) return;
    this.#nextTurn = setImmediate(() => {
      this.#nextTurn = undefined;
      this.#advance();
    });
  }

  /** Sums or copies one chunk. Returns whether there was one. */
  #turn(): boolean {
    return this.#operations.some(
      (operation) =>
        operation.unshared.size === 0 && (this.#sum(operation) || this.#copy(operation)),
    );
  }

  /** The next chunk of this rank's slice, over all ranks. */
  #sum(operation: HostOperation): boolean {
    const { memory, summed, share } = operation;
    const index = summed[this.#rank]!;
    if (index === chunksOf(operation, this.#rank)) return false;
    const { begin, end } = chunkAt(operation, this.#rank, index);
    const addends = inOrder(memory.byRank, this.#rank).map((floats) => floats.subarray(begin, end));
    // Nobody else reads the sums of a reduce-scatter, so nothing rounds them to the wire.
    const result = share.kind === "scatter" ? "exact" : "rounded";
    const own = memory.byRank[this.#rank]!.subarray(begin, end);
    sumInOrder(this.#options.wire, addends, own, result);
    summed[this.#rank] = index + 1;
    return true;
  }

  /** The next chunk of another rank's slice, where one is ready. */
  #copy(operation: HostOperation): boolean {
    const { memory, summed, copied, share } = operation;
    if (share.kind === "scatter") return false;
    // Beginning with the next one, so that not all read from the same rank at once.
    const from = inOrder([...copied.keys()], this.#rank).find(
      (rank) => rank !== this.#rank && copied[rank]! < summed[rank]!,
    );
    if (from === undefined) return false;
    const { begin, end } = chunkAt(operation, from, copied[from]!);
    memory.byRank[this.#rank]!.set(memory.byRank[from]!.subarray(begin, end), begin);
    copied[from]! += 1;
    return true;
  }

  /** Lets the others know how far this rank has come, if that is news. */
  #tell(operation: HostOperation): void {
    const { sequence, summed, share, unshared } = operation;
    const { scope, announce } = this.#options;
    if (unshared.size > 0) return;
    const chunks = summed[this.#rank]!;
    if (chunks > operation.announced && share.kind === "reduce") {
      operation.announced = chunks;
      const chunkCount = chunksOf(operation, this.#rank);
      const where = { sequence, round: 0, chunkIndex: chunks - 1, chunkCount };
      const totalBytes = totalBytesOf(operation);
      announce(encodeFrame(scope, { kind: "summed", dtype: "none", ...where, totalBytes }));
    }
    if (operation.hasSaidCopied || missingSlices(operation).size > 0) return;
    operation.hasSaidCopied = true;
    announce(encodeNotice(scope, "copied", { sequence }));
  }

  #settle(): void {
    for (const operation of this.#operations) if (isOver(operation)) operation.waiter.resolve();
    this.#operations = this.#operations.filter((operation) => !isOver(operation));
    const [head] = this.#operations;
    if (head !== undefined) head.turnAt ??= this.#options.now();
  }
}

/** The ranks that keep an operation from being complete here. */
function missingFrom(operation: HostOperation): ReadonlySet<number> {
  if (operation.unshared.size > 0) return operation.unshared;
  const missing = missingSlices(operation);
  return missing.size > 0 ? missing : operation.uncopied;
}

const NAMES = { reduce: "all-reduce", scatter: "reduce-scatter" } as const;
