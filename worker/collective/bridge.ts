/**
 * The engine thread's access to a group that lives on the main thread. The engine thread blocks;
 * the main thread never does. See bridge-layout.ts for what passes between them.
 */

import assert from "node:assert/strict";
import { MessageChannel, receiveMessageOnPort } from "node:worker_threads";
import { FleetError } from "../../proto/errors.ts";
import {
  type AllocatedFloats,
  type BridgeReply,
  type BridgeRequest,
  DONE,
  ENDED,
  FAILED,
  FIRST_SLOT,
  type GroupLink,
  IDLE,
  type LongWord,
  loadLong,
  newControl,
  OPEN,
  PENDING,
  SLOT_END,
  STATE_WORD,
  type SumRequest,
  storeLong,
} from "./bridge-layout.ts";
import { EXCHANGE_KINDS, Exchange, type ExchangeLink, type Waiting } from "./exchange.ts";
import type { PeerGroup } from "./peer-group.ts";
import { type ProcessGroup, type SharedFloats, sharedFloats, type Work } from "./process-group.ts";

export type { GroupLink } from "./bridge-layout.ts";

/** Every operation has its deadline; the main thread hangs if even several deadlines go by. */
const SILENCE_TIMEOUTS = 5;
/** How long a rank's reason for leaving may take to arrive. */
const LEFT_MS = 5000;

export interface GroupBridge {
  readonly link: GroupLink;
  /** Fails what the engine thread still waits for, and closes the port. The group stays open. */
  close(): void;
}

/** Something that the main thread did for the engine thread; times by `performance.now()`. */
export interface ServedOperation {
  readonly type: BridgeRequest["type"];
  readonly bytes: number;
  readonly beginMs: number;
  readonly endMs: number;
}

/**
 * Main thread: serves `group` to one engine thread. Called by all ranks.
 *
 * @param onServed told of each operation that has completed
 * @throws {FleetError} GENERATION_ABORTED
 */
export async function bridgeGroup(
  group: PeerGroup,
  onServed?: (operation: ServedOperation) => void,
): Promise<GroupBridge> {
  const control = newControl();
  const exchange = await group.openExchange(control);
  const { port1: port, port2 } = new MessageChannel();
  const words = new Int32Array(control);

  const tell = (reply: BridgeReply) => port.postMessage(reply);
  const end = (error: FleetError) => {
    if (Atomics.load(words, STATE_WORD) === ENDED) return;
    tell({ type: "ended", error: error.toPlain() });
    Atomics.store(words, STATE_WORD, ENDED);
    Atomics.notify(words, STATE_WORD);
    for (let slot = FIRST_SLOT; slot < SLOT_END; slot++) settle(words, slot, FAILED);
  };

  const server = new BridgeServer(group, tell);
  port.on("message", (request: BridgeRequest) => {
    const beginMs = performance.now();
    server.run(request).then(
      () => {
        const { type } = request;
        onServed?.({ type, bytes: bytesOf(request), beginMs, endMs: performance.now() });
        storeLong(control, "reduceNs", 1e9 * group.reduceSeconds);
        settle(words, request.slot, DONE);
      },
      (error) => {
        end(FleetError.from(error));
        settle(words, request.slot, FAILED);
      },
    );
  });
  void group.failed.then(end);

  return {
    link: {
      port: port2,
      control,
      rank: group.rank,
      worldSize: group.worldSize,
      silenceMs: SILENCE_TIMEOUTS * group.opTimeoutMs,
      exchange,
    },
    close: () => {
      end(new FleetError("GENERATION_ABORTED", "this worker has left the group"));
      port.close();
    },
  };
}

/** Of this rank's buffer. */
function bytesOf(request: BridgeRequest): number {
  if ("buffer" in request) return Float32Array.BYTES_PER_ELEMENT * request.buffer.length;
  return request.type === "all-gather" ? request.all.byteLength : 0;
}

class BridgeServer {
  readonly #group: PeerGroup;
  readonly #reply: (reply: BridgeReply) => void;
  /** As the group knows them: what comes over the port is the same memory in another object. */
  readonly #allocations: SharedFloats[] = [];

  constructor(group: PeerGroup, reply: (reply: BridgeReply) => void) {
    this.#group = group;
    this.#reply = reply;
  }

  /** Async throughout, so that what an operation throws at once is a rejection too. */
  async run(request: BridgeRequest): Promise<void> {
    const group = this.#group;
    switch (request.type) {
      case "allocate":
        return this.#allocate(request.length);
      case "all-reduce":
        return group.allReduce(this.#find(request.buffer));
      case "reduce-scatter":
        return group.reduceScatter(this.#find(request.buffer));
      case "all-gather":
        return group.allGatherInto(request.all);
      case "broadcast":
        return group.broadcast(request.buffer, request.root);
      case "barrier":
        return group.barrier();
    }
  }

  async #allocate(length: number): Promise<void> {
    const floats = await this.#group.allocate(length);
    this.#allocations.push(floats);
    this.#reply({ type: "allocated", floats });
  }

  #find(buffer: SharedFloats | AllocatedFloats): SharedFloats {
    if (!("allocation" in buffer)) return buffer;
    const floats = this.#allocations[buffer.allocation];
    assert.ok(floats, `there is no allocation ${buffer.allocation}`);
    return new Float32Array(floats.buffer, buffer.offset, buffer.length);
  }
}

/** Wakes the engine thread if it sleeps on the slot. A slot that is not pending stays as it is. */
function settle(words: Int32Array, slot: number, state: number): void {
  if (Atomics.compareExchange(words, slot, PENDING, state) === PENDING) Atomics.notify(words, slot);
}

/** A group of several workers, on the engine thread. */
export interface EngineGroup extends ProcessGroup {
  /** Lets go of what this thread has opened. No collective may follow. */
  close(): void;
}

/** Engine thread: the blocking side of the bridge. */
export function connectGroup(link: GroupLink): EngineGroup {
  return new BridgedGroup(link);
}

class BridgedGroup implements EngineGroup {
  readonly rank: number;
  readonly worldSize: number;
  readonly #port: GroupLink["port"];
  readonly #control: GroupLink["control"];
  readonly #words: Int32Array;
  readonly #silenceMs: number;
  #lastSlot = FIRST_SLOT;
  /** The number of each allocation. */
  readonly #allocations = new Map<SharedArrayBuffer, number>();
  /** Where all-gathers take place; grows to the largest. */
  #gathered = sharedFloats(0);
  readonly #exchange: Exchange | undefined;
  /** Received, and not handed out yet. */
  #allocated: SharedFloats | undefined;
  #failure: FleetError | undefined;
  /** In operations of the main thread. */
  #waitedMs = 0;

  constructor(link: GroupLink) {
    this.rank = link.rank;
    this.worldSize = link.worldSize;
    this.#port = link.port;
    this.#control = link.control;
    this.#words = new Int32Array(link.control);
    this.#silenceMs = link.silenceMs;
    // A port without a listener would not keep the thread alive; be sure of it.
    this.#port.unref();
    this.#exchange = link.exchange && this.#openExchange(link.exchange);
  }

  get allReduceSeconds(): number {
    const ns = loadLong(this.#control, "reduceNs") + loadLong(this.#control, "exchangeReduceNs");
    return ns / 1e9;
  }

  get waitedSeconds(): number {
    return (this.#waitedMs + (this.#exchange?.waitedMs ?? 0)) / 1000;
  }

  allocate(length: number): SharedFloats {
    this.#start((slot) => ({ type: "allocate", slot, length })).wait();
    this.#receive();
    const floats = this.#allocated;
    assert.ok(floats, "an allocation comes before its slot is done");
    this.#allocated = undefined;
    this.#allocations.set(floats.buffer, this.#allocations.size);
    return floats;
  }

  allReduce(buffer: SharedFloats): Work {
    if (this.#exchange?.fits(buffer.length)) {
      this.#reduceAtOnce(this.#exchange, buffer);
      return { wait: () => {} };
    }
    return this.#sum("all-reduce", buffer);
  }

  reduceScatter(buffer: SharedFloats): Work {
    return this.#sum("reduce-scatter", buffer);
  }

  allGather(own: Float32Array): Float32Array {
    if (this.#exchange?.fits(own.length)) return this.#exchange.allGather(own);
    const length = own.length * this.worldSize;
    if (this.#gathered.length < length) {
      this.#gathered = sharedFloats(2 * length);
    }
    const all = this.#gathered.subarray(0, length);
    all.set(own, own.length * this.rank);
    this.#start((slot) => ({ type: "all-gather", slot, all })).wait();
    // Of this thread alone: the next all-gather overwrites the shared one.
    return new Float32Array(all);
  }

  broadcast(buffer: SharedFloats, root: number): void {
    this.#start((slot) => ({ type: "broadcast", slot, buffer, root })).wait();
  }

  barrier(): void {
    if (this.#exchange) {
      this.#exchange.barrier();
      return;
    }
    this.#start((slot) => ({ type: "barrier", slot })).wait();
  }

  close(): void {
    this.#exchange?.close();
  }

  #openExchange(link: ExchangeLink): Exchange {
    try {
      return new Exchange({
        ...link,
        rank: this.rank,
        waiting: (waiting) => this.#sayWaiting(waiting),
        throwIfEnded: () => this.#throwIfEnded(),
        silenceMs: this.#silenceMs,
      });
    } catch (thrown) {
      // A rank has left, then: the main thread is about to hear why.
      Atomics.wait(this.#words, STATE_WORD, OPEN, LEFT_MS);
      this.#throwIfEnded();
      throw thrown;
    }
  }

  #reduceAtOnce(exchange: Exchange, buffer: SharedFloats): void {
    const began = performance.now();
    exchange.allReduce(buffer);
    this.#addLong("exchangeReduces", 1);
    this.#addLong("exchangeReduceBytes", buffer.byteLength);
    this.#addLong("exchangeReduceNs", 1e6 * (performance.now() - began));
  }

  #addLong(word: LongWord, value: number): void {
    storeLong(this.#control, word, loadLong(this.#control, word) + value);
  }

  #sayWaiting(waiting: Waiting | undefined): void {
    if (waiting !== undefined) {
      storeLong(this.#control, "waitingKind", EXCHANGE_KINDS.indexOf(waiting.kind));
      storeLong(this.#control, "waitingMaxMs", waiting.limitMs);
      storeLong(this.#control, "waitingSinceNs", Number(process.hrtime.bigint()));
    }
    storeLong(this.#control, "waitingIn", waiting === undefined ? 0 : waiting.sequence + 1);
  }

  #throwIfEnded(): void {
    if (Atomics.load(this.#words, STATE_WORD) !== OPEN) throw this.#reason();
  }

  #sum(type: SumRequest, buffer: SharedFloats): Work {
    const allocation = this.#allocations.get(buffer.buffer);
    const { byteOffset: offset, length } = buffer;
    const place = allocation === undefined ? buffer : { allocation, offset, length };
    return this.#start((slot) => ({ type, slot, buffer: place }));
  }

  #start(requestIn: (slot: number) => BridgeRequest): Work {
    this.#throwIfEnded();
    const slot = this.#takeSlot();
    this.#port.postMessage(requestIn(slot));
    let isDone = false;
    return {
      wait: () => {
        if (!isDone) this.#await(slot);
        isDone = true;
      },
    };
  }

  #takeSlot(): number {
    for (let tried = FIRST_SLOT; tried < SLOT_END; tried++) {
      this.#lastSlot = this.#lastSlot + 1 < SLOT_END ? this.#lastSlot + 1 : FIRST_SLOT;
      if (Atomics.compareExchange(this.#words, this.#lastSlot, IDLE, PENDING) === IDLE) {
        return this.#lastSlot;
      }
    }
    throw assert.fail("1024 operations have been started and not waited for");
  }

  #await(slot: number): void {
    // The group may have ended between the check and the slot's turn to pending.
    const ended = () => Atomics.load(this.#words, STATE_WORD) === ENDED;
    const began = performance.now();
    const isSilent =
      !ended() && Atomics.wait(this.#words, slot, PENDING, this.#silenceMs) === "timed-out";
    this.#waitedMs += performance.now() - began;
    const state = Atomics.exchange(this.#words, slot, IDLE);
    if (state === DONE) return;
    if (isSilent) throw new FleetError("UNEXPECTED", "the main thread does not answer");
    throw this.#reason();
  }

  #reason(): FleetError {
    this.#receive();
    return this.#failure ?? new FleetError("GENERATION_ABORTED", "the group has ended");
  }

  #receive(): void {
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (received === undefined) return;
      const reply = received.message as BridgeReply;
      if (reply.type === "allocated") this.#allocated = reply.floats;
      else this.#failure = FleetError.fromPlain(reply.error);
    }
  }
}
