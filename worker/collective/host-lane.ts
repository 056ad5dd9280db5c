/**
 * Sums over memory that all ranks of a gang share because they are on one host: see host-memory.ts.
 * Nothing is sent but notices. What each rank does in one operation:
 *
 *   1. says `share`: its addends lie ready, and it leaves them alone;
 *   2. when all have said so, adds up one slice of the buffer over all ranks, in its own memory, and
 *      says `summed` as it goes on, chunk by chunk;
 *   3. copies the other slices from the ranks that have summed them;
 *   4. says `copied`: it reads nothing more of the others' memory;
 *   5. is done when all the others have said so.
 *
 * A slice of a rank's memory is read by one other rank only until that rank has said `summed`, and
 * written by its owner only afterwards. So nothing needs to be copied aside.
 *
 * Three hops are many for a small buffer. There, a rank copies its addends aside all the same, to a
 * stage; everybody sums all slices for itself and is done at once. A stage is used again once all
 * others have read it, which they say with a later `share`, or by `copied` where none follows.
 *
 * Slices are cut, and their addends added and rounded, as the ring does it: which way a sum takes
 * makes no difference to its bits.
 */

import { sumInOrder, type Wire } from "./floats.ts";
import {
  encodeFrame,
  encodeNotice,
  type Frame,
  type FrameKind,
  type FrameScope,
  frameError,
  readJson,
} from "./frame.ts";
import { type HostMemory, type HostPlace, STAGED_BYTES_MAX, STAGES } from "./host-memory.ts";
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
  type ShareNotice,
  sliceAt,
  stageAt,
  totalBytesOf,
} from "./host-operation.ts";
import type { SumKind } from "./ring.ts";
import { likesOf, type Overdue, type Waiter } from "./small-lane.ts";

/** How long chunks are worked off before what they made is let out. */
const TURN_MS = 2;

export interface HostLaneOptions {
  readonly worldSize: number;
  readonly scope: FrameScope;
  readonly wire: Wire;
  /** Tells every other rank, by the small lane. */
  readonly announce: (frame: Buffer) => void;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

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
  /** How many operations have used a stage of a memory. */
  readonly #staged = new WeakMap<HostMemory, number>();
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
      stage: 4 * length <= STAGED_BYTES_MAX ? this.#takeStage(memory) : undefined,
      waiter,
    });
    this.#operations = [...this.#operations, operation];
    for (const [rank, shares] of this.#early.entries()) {
      const share = shares.shift();
      if (share !== undefined) matchShare(operation, rank, share);
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
    const head = this.#operations.find(({ isResolved }) => !isResolved);
    if (head?.turnAt === undefined) return undefined;
    const { kind, length } = head.share;
    const what = `${NAMES[kind]} ${head.sequence} of ${totalBytesOf(head)} bytes`;
    const likes = likesOf(kind, length);
    return { what, likes, startedAt: head.turnAt, missing: [...this.#missingFrom(head)] };
  }

  /** Whether an operation under way lacks something of `rank`. */
  awaits(rank: number): boolean {
    return this.#operations.some(
      (operation) => !operation.isResolved && this.#missingFrom(operation).has(rank),
    );
  }

  /** Says what is still to be said of operations that are complete here: nothing follows. */
  finish(): void {
    this.#freeStages();
    clearImmediate(this.#nextTurn);
  }

  fail(error: Error): void {
    for (const { waiter, isResolved } of this.#operations) if (!isResolved) waiter.reject(error);
    this.#operations = [];
    for (const shares of this.#early) shares.length = 0;
    clearImmediate(this.#nextTurn);
  }

  get #rank(): number {
    return this.#options.scope.source;
  }

  #takeStage(memory: HostMemory): number {
    const count = this.#staged.get(memory) ?? 0;
    this.#staged.set(memory, count + 1);
    return count % STAGES;
  }

  #acceptShare(rank: number, frame: Frame): void {
    const next = this.#sharedBy[rank]!;
    if (frame.sequence !== next) {
      const fault = frame.sequence < next ? "REPEATED" : "REORDERED";
      throw frameError(fault, `share ${frame.sequence}, ${next} is next`);
    }
    this.#sharedBy[rank] = next + 1;
    const { readUpTo = 0, ...share } = readJson<ShareNotice>(frame);
    for (const { stage, sequence, uncopied } of this.#operations) {
      if (stage !== undefined && sequence < readUpTo) uncopied.delete(rank);
    }
    if (frame.sequence >= this.#nextSequence) this.#early[rank]!.push(share);
    else matchShare(this.#operationOf(frame), rank, share);
  }

  #acceptSummed(rank: number, frame: Frame): void {
    const operation = this.#operationOf(frame);
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
    // An operation that waits for a stage: the others may wait for the same one.
    if (this.#operations.some(({ hasShared }) => !hasShared)) this.#freeStages();
    this.#settle();
    if (!isBusy) return;
    this.#nextTurn = setImmediate(() => {
      this.#nextTurn = undefined;
      this.#advance();
    });
  }

  /** Shares, sums or copies a little. Returns whether there was something to do. */
  #turn(): boolean {
    return this.#operations.some((operation) => {
      if (this.#share(operation)) return true;
      if (operation.unshared.size > 0) return false;
      if (operation.stage !== undefined) return this.#sumStages(operation, operation.stage);
      return this.#sum(operation) || this.#copy(operation);
    });
  }

  #share(operation: HostOperation): boolean {
    if (operation.hasShared || this.#blockerOf(operation) !== undefined) return false;
    const { share, memory, stage, sequence } = operation;
    if (stage !== undefined) {
      const own = memory.byRank[this.#rank]!;
      own.copyWithin(stageAt(memory, stage), share.begin, share.begin + share.length);
    }
    operation.hasShared = true;
    const { scope, announce } = this.#options;
    const totalBytes = totalBytesOf(operation);
    const readUpTo = this.#readUpTo();
    for (const earlier of this.#operations) {
      const isSaid = earlier.stage !== undefined && earlier.sequence < readUpTo;
      if (isSaid) earlier.hasSaidCopied = true;
    }
    const json: ShareNotice = { ...share, readUpTo };
    announce(encodeNotice(scope, "share", { sequence, totalBytes, json }));
    return true;
  }

  /** The first operation whose stages this rank has still to read. */
  #readUpTo(): number {
    const unread = this.#operations.find(
      ({ stage, isResolved }) => stage !== undefined && !isResolved,
    );
    return unread?.sequence ?? this.#nextSequence;
  }

  /** An earlier operation whose addends are still on this one's stage. */
  #blockerOf({ memory, stage, sequence }: HostOperation): HostOperation | undefined {
    if (stage === undefined) return undefined;
    return this.#operations.find(
      (other) => other.sequence < sequence && other.memory === memory && other.stage === stage,
    );
  }

  /** The next chunk of this rank's slice, over all ranks. */
  #sum(operation: HostOperation): boolean {
    const { memory, summed } = operation;
    const index = summed[this.#rank]!;
    if (index === chunksOf(operation, this.#rank)) return false;
    const { begin, end } = chunkAt(operation, this.#rank, index);
    const addends = inOrder(memory.byRank, this.#rank);
    this.#add(
      operation,
      addends.map((floats) => floats.subarray(begin, end)),
      memory.byRank[this.#rank]!.subarray(begin, end),
    );
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

  /** All slices, or of a reduce-scatter the own one, from the stages of all ranks. */
  #sumStages(operation: HostOperation, stage: number): boolean {
    if (operation.isResolved) return false;
    const { share, memory } = operation;
    const aside = stageAt(memory, stage) - share.begin;
    const lasts = share.kind === "scatter" ? [this.#rank] : memory.byRank.keys();
    for (const last of lasts) {
      const { begin, end } = sliceAt(operation, last);
      const addends = inOrder(memory.byRank, last);
      this.#add(
        operation,
        addends.map((floats) => floats.subarray(aside + begin, aside + end)),
        memory.byRank[this.#rank]!.subarray(begin, end),
      );
    }
    this.#resolve(operation);
    return true;
  }

  #add({ share }: HostOperation, addends: readonly Float32Array[], target: Float32Array): void {
    // Nobody else reads the sums of a reduce-scatter, so nothing rounds them to the wire.
    sumInOrder(this.#options.wire, addends, target, share.kind === "scatter" ? "exact" : "rounded");
  }

  /** Lets the others use the stages again that this rank has read. */
  #freeStages(): void {
    for (const operation of this.#operations) {
      if (operation.stage !== undefined && operation.isResolved) this.#tellCopied(operation);
    }
  }

  /** Lets the others know how far this rank has come, if that is news. */
  #tell(operation: HostOperation): void {
    const { sequence, summed, share, stage, unshared } = operation;
    if (stage !== undefined || unshared.size > 0) return;
    const chunks = summed[this.#rank]!;
    if (chunks > operation.announced && share.kind === "reduce") {
      operation.announced = chunks;
      const { scope, announce } = this.#options;
      const chunkCount = chunksOf(operation, this.#rank);
      const where = { sequence, round: 0, chunkIndex: chunks - 1, chunkCount };
      const totalBytes = totalBytesOf(operation);
      announce(encodeFrame(scope, { kind: "summed", dtype: "none", ...where, totalBytes }));
    }
    if (missingSlices(operation).size === 0) this.#tellCopied(operation);
  }

  #tellCopied(operation: HostOperation): void {
    if (operation.hasSaidCopied) return;
    operation.hasSaidCopied = true;
    const { sequence } = operation;
    this.#options.announce(encodeNotice(this.#options.scope, "copied", { sequence }));
  }

  #settle(): void {
    for (const operation of this.#operations) {
      const { hasSaidCopied, uncopied, isResolved } = operation;
      if (hasSaidCopied && uncopied.size === 0 && !isResolved) this.#resolve(operation);
    }
    if (this.#operations.some(isOver)) {
      this.#operations = this.#operations.filter((operation) => !isOver(operation));
    }
    const head = this.#operations.find(({ isResolved }) => !isResolved);
    if (head !== undefined) head.turnAt ??= this.#options.now();
  }

  #resolve(operation: HostOperation): void {
    operation.isResolved = true;
    operation.waiter.resolve();
  }

  /** The ranks that keep an operation from being complete here. */
  #missingFrom(operation: HostOperation): ReadonlySet<number> {
    const blocker = operation.hasShared ? undefined : this.#blockerOf(operation);
    if (blocker !== undefined) return blocker.uncopied;
    if (operation.unshared.size > 0) return operation.unshared;
    const missing = missingSlices(operation);
    return missing.size > 0 ? missing : operation.uncopied;
  }
}

const NAMES = { reduce: "all-reduce", scatter: "reduce-scatter" } as const;
