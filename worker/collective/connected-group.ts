/** A gang's collectives over gRPC and shared memory, on the main thread. */

import assert from "node:assert/strict";
import { type ErrorDetail, FleetError, type PlainError } from "../../proto/errors.ts";
import { within } from "../../proto/within.ts";
import { BulkLane } from "./bulk-lane.ts";
import { Deadlines, FIRST_MS } from "./deadlines.ts";
import { EXCHANGE_FLOATS, type ExchangeLink } from "./exchange.ts";
import { ExchangeWatch } from "./exchange-watch.ts";
import { type Frame, hashExperiment } from "./frame.ts";
import { findFutex } from "./futex.ts";
import { HostLane, isOfHostLane } from "./host-lane.ts";
import { HostMemories } from "./host-memory.ts";
import { Latch } from "./latch.ts";
import { Links } from "./links.ts";
import {
  blame,
  describeGeneration,
  describeRanks,
  type Membership,
  predecessorOf,
  successorOf,
  whichGeneration,
} from "./membership.ts";
import type { JoinOptions, PeerGroup } from "./peer-group.ts";
import type { SharedFloats } from "./process-group.ts";
import { addStats, type GroupStats, ReduceStats } from "./reduce-stats.ts";
import type { SumKind } from "./ring.ts";
import {
  likesOf,
  type PartKind,
  SMALL_REDUCE_BYTES,
  SmallLane,
  sumParts,
  type Waiter,
} from "./small-lane.ts";

/** A stopped peer is to be found within 5 s: this, a tick, and what a busy machine adds. */
const SILENCE_TIMEOUT_MS = 4000;
/** How long a member that is done waits for the others to have read what it sent. */
const LEAVE_TIMEOUT_MS = 30_000;

export class ConnectedGroup implements PeerGroup {
  readonly rank: number;
  readonly worldSize: number;
  readonly opTimeoutMs: number;
  readonly failed: Promise<FleetError>;
  readonly #options: JoinOptions;
  readonly #members: Membership;
  readonly #links: Links;
  readonly #small: SmallLane;
  readonly #bulk: BulkLane;
  readonly #host: HostLane;
  readonly #memories: HostMemories;
  #watched: ExchangeWatch | undefined;
  readonly #deadlines: Deadlines;
  readonly #broken = new Latch();
  readonly #watch: NodeJS.Timeout;
  readonly #stopListening: () => void;
  readonly #pending = new Set<Promise<void>>();
  readonly #stats = new ReduceStats();
  #failure: FleetError | undefined;
  #isClosing = false;

  constructor(options: JoinOptions) {
    this.#options = options;
    this.#members = options;
    this.rank = options.rank;
    this.worldSize = options.peers.length;
    this.opTimeoutMs = options.opTimeoutMs ?? FIRST_MS;
    this.#deadlines = new Deadlines(options.opTimeoutMs);
    this.failed = this.#broken.opened.then(() => this.#failure ?? this.#ended("it broke"));
    const silenceTimeoutMs = options.silenceTimeoutMs ?? SILENCE_TIMEOUT_MS;
    const memoryHost = options.sharedMemory === false ? undefined : options.server.memoryHost;
    this.#links = new Links(
      { ...options, silenceTimeoutMs, memoryHost },
      {
        frame: (rank, lane, frame) => this.#accept(rank, lane, frame),
        drain: () => this.#guard(() => this.#bulk.drain()),
        progress: () => this.#bulk.progress,
        left: () => this.#checkLeavers(),
        broken: (error) => this.#fail(error, error.toPlain()),
      },
    );
    const experimentHash = hashExperiment(options.experimentId);
    const scope = { experimentHash, generation: options.generation, source: options.rank };
    const { worldSize } = this;
    const sendToAll = (frame: Buffer) => this.#links.sendToAll(frame);
    this.#small = new SmallLane({ worldSize, scope, send: sendToAll });
    const common = { worldSize, scope, wire: options.wire, announce: sendToAll };
    const now = () => performance.now();
    this.#host = new HostLane({ ...common, now });
    this.#memories = new HostMemories({
      rank: this.rank,
      // A lone rank has nobody to share with.
      host: worldSize > 1 ? memoryHost : undefined,
      allGather: (own) => this.allGather(own),
    });
    this.#bulk = new BulkLane({
      ...common,
      isReady: () => this.#links.bulk?.isReady ?? false,
      outbox: () => this.#links.outbox,
      send: (frame, written) => this.#links.bulk?.write(frame, written),
      taken: () => this.#links.taken(),
      reportTaken: () => this.#links.reportTaken(),
      refuse: (thrown) => this.#links.refuseBulk(thrown),
      pause: () => this.#links.pauseBulk(),
      resume: () => this.#links.resumeBulk(),
      now,
    });
    const watch = () => {
      this.#checkLeavers();
      this.#checkDeadlines();
    };
    this.#watch = setInterval(watch, Math.min(1000, this.opTimeoutMs / 4));
    this.#stopListening = this.#listen(options.signal);
  }

  async form(timeoutMs: number): Promise<void> {
    await within(Promise.race([this.#links.formed, this.#broken.opened]), timeoutMs);
    const absent = this.#links.absentRanks;
    if (this.#failure === undefined && absent.length > 0) {
      const text = `did not form within ${timeoutMs} ms: ${this.#links.describeAbsent()}`;
      const error = this.#ended(text, this.#accuse(absent));
      this.#fail(error, error.toPlain());
    }
    if (this.#failure === undefined) return;
    await this.#links.cut();
    throw this.#failure;
  }

  async openExchange(control: SharedArrayBuffer): Promise<ExchangeLink | undefined> {
    const memory = await this.#memories.share(EXCHANGE_FLOATS);
    // All ranks are on one host if there is memory, and find the same there.
    if (memory === undefined || findFutex() === undefined) return undefined;
    this.#watched = new ExchangeWatch(memory, control);
    const { wire, opTimeoutMs } = this.#options;
    return { floats: memory.floats, tickets: memory.tickets, wire, opTimeoutMs };
  }

  allocate(length: number): Promise<SharedFloats> {
    return this.#memories.allocate(length);
  }

  allReduce(buffer: SharedFloats): Promise<void> {
    return this.#stats.measure(buffer.byteLength, () => this.#reduce(buffer));
  }

  reduceScatter(buffer: SharedFloats): Promise<void> {
    assert.equal(buffer.length % this.worldSize, 0, "one equal part per rank");
    return this.#sum("scatter", buffer);
  }

  async allGather(own: Float32Array): Promise<Float32Array> {
    const all = new Float32Array(own.length * this.worldSize);
    all.set(own, own.length * this.rank);
    await this.allGatherInto(all);
    return all;
  }

  allGatherInto(all: Float32Array): Promise<void> {
    assert.equal(all.length % this.worldSize, 0, "one equal part per rank");
    return this.#exchange("gather", all);
  }

  broadcast(buffer: SharedFloats, root: number): Promise<void> {
    assert.ok(root >= 0 && root < this.worldSize, "root is a rank");
    return this.#run("broadcast", buffer, (waiter) => this.#bulk.broadcast(buffer, root, waiter));
  }

  barrier(): Promise<void> {
    return this.#exchange("barrier", new Float32Array(0));
  }

  abort(error: FleetError): void {
    const because = `this worker stopped: ${error.message}`;
    this.#fail(this.#ended(because, { cause: error.code }, error), error.toPlain());
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    await Promise.allSettled(this.#pending);
    if (this.#failure === undefined) await this.#links.leave(LEAVE_TIMEOUT_MS);
    this.#release();
    await this.#links.cut();
  }

  get reduceSeconds(): number {
    return this.#stats.total.allReduceSeconds;
  }

  stats(): GroupStats {
    return addStats(this.#stats.total, this.#watched?.stats);
  }

  async #reduce(buffer: SharedFloats): Promise<void> {
    if (buffer.byteLength > SMALL_REDUCE_BYTES) {
      await this.#sum("reduce", buffer);
      return;
    }
    const all = new Float32Array(buffer.length * this.worldSize);
    all.set(buffer, buffer.length * this.rank);
    await this.#exchange("sum", all);
    sumParts(all, buffer);
  }

  /** By whichever way is fastest for where the buffer lies; the bits are the same. */
  #sum(kind: SumKind, buffer: SharedFloats): Promise<void> {
    const place = this.#memories.find(buffer);
    return this.#run(kind, buffer, (waiter) => {
      if (place) this.#host.start(kind, place, waiter);
      else this.#bulk.sum(kind, buffer, waiter);
    });
  }

  #exchange(kind: PartKind, all: Float32Array): Promise<void> {
    return this.#run(kind, all, (waiter) =>
      this.#small.start(kind, all, performance.now(), waiter),
    );
  }

  /** Starts an operation, and keeps it among those that `close` waits for. */
  #run(kind: string, buffer: Float32Array, start: (waiter: Waiter) => void): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isClosing) return Promise.reject(this.#ended("this worker has left it"));
    const startedAt = performance.now();
    const operation = new Promise<void>((resolve, reject) => {
      this.#guard(() => start({ resolve, reject }));
    });
    this.#pending.add(operation);
    const forget = () => this.#pending.delete(operation);
    operation.then(() => {
      forget();
      this.#deadlines.record(likesOf(kind, buffer.length), performance.now() - startedAt);
    }, forget);
    this.#checkLeavers();
    return operation;
  }

  #accept(rank: number, lane: "small" | "bulk", frame: Frame): void {
    if (lane === "bulk") this.#bulk.accept(frame);
    else if (frame.kind.startsWith("start-")) this.#bulk.acceptStart(rank, frame);
    else if (isOfHostLane(frame.kind)) this.#host.accept(rank, frame);
    else this.#small.accept(rank, frame);
  }

  /** Runs what may find that the ranks have diverged. */
  #guard(action: () => void): void {
    try {
      action();
    } catch (thrown) {
      const { message, detail } = FleetError.from(thrown);
      const error = this.#ended(message, detail, thrown);
      this.#fail(error, error.toPlain());
    }
  }

  /** A peer that has left in good order will never contribute to what it has not sent by now. */
  #checkLeavers(): void {
    for (const rank of this.#members.peers.keys()) {
      if (!this.#links.hasLeft(rank)) continue;
      const isMissed =
        this.#small.awaits(rank) ||
        this.#host.awaits(rank) ||
        this.#watched?.awaits(rank) ||
        (rank === predecessorOf(this.#members) && this.#bulk.isReceiving) ||
        (rank === successorOf(this.#members) && this.#bulk.isSending);
      if (!isMissed) continue;
      const error = blame(this.#members, rank, "left before this operation");
      this.#fail(error, error.toPlain());
      return;
    }
  }

  #checkDeadlines(): void {
    const lanes = [this.#small, this.#bulk, this.#host, this.#watched];
    for (const oldest of lanes.map((lane) => lane?.oldest)) {
      if (oldest === undefined) continue;
      const { what, startedAt, missing } = oldest;
      const limitMs = "limitMs" in oldest ? oldest.limitMs : this.#deadlines.limitOf(oldest.likes);
      if (performance.now() - startedAt < limitMs) continue;
      const ranks = missing.length > 0 ? missing : [this.#slowestSender()];
      const who = describeRanks(this.#members, ranks);
      const verb = missing.length > 0 ? "no contribution" : "no further data";
      const text = `${what} took longer than ${Math.round(limitMs)} ms: ${verb} from ${who}`;
      const error = this.#ended(text, this.#accuse(ranks));
      this.#fail(error, error.toPlain());
      return;
    }
  }

  /**
   * In a ring everybody soon waits for the slowest, each for its own predecessor. Who lacks most is
   * the one whose predecessor keeps the others waiting.
   */
  #slowestSender(): number {
    const own = this.#bulk.progress;
    const pendingAt = (rank: number) => {
      const progress = rank === this.rank ? own : this.#links.progressOf(rank);
      // A rank in another operation is through with this one: all have started it.
      return progress?.sequence === own?.sequence ? (progress?.pending ?? 0) : 0;
    };
    const ranks = [...this.#members.peers.keys()];
    const behind = ranks.reduce((a, b) => (pendingAt(b) > pendingAt(a) ? b : a));
    return predecessorOf({ ...this.#members, rank: behind });
  }

  #listen(signal: AbortSignal | undefined): () => void {
    const stop = () => this.abort(FleetError.from(signal?.reason));
    if (signal?.aborted) queueMicrotask(stop);
    signal?.addEventListener("abort", stop, { once: true });
    return () => signal?.removeEventListener("abort", stop);
  }

  /** @param told what the peers hear */
  #fail(error: FleetError, told: PlainError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#small.fail(error);
    this.#bulk.fail(error);
    this.#host.fail(error);
    this.#release();
    void this.#links.cut(told);
    if (!this.#isClosing || this.#pending.size > 0) this.#broken.open();
  }

  #release(): void {
    this.#watched?.close();
    this.#memories.close();
    clearInterval(this.#watch);
    this.#stopListening();
  }

  #ended(because: string, detail: ErrorDetail = {}, cause?: unknown): FleetError {
    const which = whichGeneration(this.#members);
    const message = `${describeGeneration(this.#members)} ended: ${because}`;
    return new FleetError("GENERATION_ABORTED", message, { ...which, ...detail }, cause);
  }

  /** The first of `ranks` in full, and all of them by number. */
  #accuse(ranks: readonly number[]): ErrorDetail {
    const [rank = 0] = ranks;
    const { detail } = blame(this.#members, rank, "");
    return { ...detail, ranks: ranks.join(",") };
  }
}
