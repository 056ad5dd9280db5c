/**
 * All streams between this worker and one peer: a small lane each way, and the bulk lane where the
 * two are neighbours in the ring. Knows whether the peer is there, lost, or has left; what the
 * frames of operations mean is the lanes' affair.
 */

import { FleetError, type PlainError } from "../../proto/errors.ts";
import { Lane, type PullRequest } from "../../proto/gen/peer.ts";
import type { Transport } from "../../proto/transport.ts";
import { PROTOCOL_VERSION } from "../../proto/version.ts";
import type { RingProgress } from "./bulk-lane.ts";
import { Farewell } from "./farewell.ts";
import {
  decodeFrame,
  encodeNotice,
  type Frame,
  type FrameScope,
  frameError,
  framesIn,
  readJson,
} from "./frame.ts";
import { Inlet } from "./inlet.ts";
import { blame, describeRank, type Membership, predecessorOf, successorOf } from "./membership.ts";
import { Outlet } from "./outlet.ts";
import { openClient, type PullCall } from "./peer-service.ts";
import type { MemoryHost, MemoryTicket } from "./shared-memory.ts";
import { SharedInbox, SharedOutbox } from "./shared-slots.ts";
import { Silence } from "./silence.ts";

export type LaneName = "small" | "bulk";

/** Pause between two signs of life. */
export const PULSE_MS = 500;
/** How long a peer's own account of why it left is waited for, once it has stopped reading. */
const ACCOUNT_MS = 500;

export interface PeerLinkOptions extends Membership {
  readonly wire: string;
  readonly joinToken: string;
  /** How the peers are called. Default plain text. */
  readonly transport?: Transport;
  /** A peer that is silent for longer is lost. */
  readonly silenceTimeoutMs: number;
  /** For bulk data between workers of one host; undefined keeps all data in the streams. */
  readonly memoryHost: MemoryHost | undefined;
}

export interface PeerLinkEvents {
  /** A frame of an operation, in the order sent. Throws what is wrong with it. */
  frame(lane: LaneName, frame: Frame): void;
  /** The peer takes more on the bulk lane. */
  drain(): void;
  /** What `isWhole` or `isReleased` says may have changed. */
  changed(): void;
  /** The peer has said goodbye on every stream. */
  left(): void;
  /** The generation cannot go on. */
  lost(error: FleetError): void;
}

/** What a member tells each peer first, so that a gang that disagrees about itself never starts. */
interface Hello {
  readonly worker: string;
  readonly worldSize: number;
  readonly wire: string;
  /** On the bulk lane: where payloads will lie, if the receiver can open it. */
  readonly memory?: MemoryTicket | undefined;
}

export class PeerLink {
  readonly #options: PeerLinkOptions;
  readonly #rank: number;
  readonly #events: PeerLinkEvents;
  /** Of the frames from this worker, and from the peer. */
  readonly #ownScope: FrameScope;
  readonly #peerScope: FrameScope;
  readonly #lanesIn: readonly LaneName[];
  readonly #lanesOut: readonly LaneName[];
  readonly #inlets = new Map<LaneName, Inlet>();
  #progress: Partial<RingProgress> | undefined;
  readonly #outlets = new Map<LaneName, Outlet>();
  /** Lanes on which the peer's hello, and its goodbye, have arrived. */
  readonly #greeted = new Set<LaneName>();
  readonly #parted = new Set<LaneName>();
  readonly #farewell: Farewell;
  readonly #silence = new Silence(PULSE_MS);
  readonly #outbox: SharedOutbox | undefined;
  #inbox: SharedInbox | undefined;
  #account: NodeJS.Timeout | undefined;
  #isOver = false;

  /** Begins to ask the peer for its streams. */
  constructor(options: PeerLinkOptions, rank: number, own: FrameScope, events: PeerLinkEvents) {
    this.#options = options;
    this.#rank = rank;
    this.#events = events;
    this.#ownScope = own;
    this.#peerScope = { ...own, source: rank };
    this.#lanesIn = rank === predecessorOf(options) ? ["small", "bulk"] : ["small"];
    this.#lanesOut = rank === successorOf(options) ? ["small", "bulk"] : ["small"];
    this.#farewell = new Farewell(this.#lanesIn.length);
    if (this.#lanesOut.includes("bulk")) this.#outbox = SharedOutbox.of(options.memoryHost);
    for (const lane of this.#lanesIn) this.#inlets.set(lane, this.#pull(lane));
  }

  /** Whether every stream in both directions is open. */
  get isWhole(): boolean {
    const isServed = this.#lanesIn.every((lane) => this.#greeted.has(lane));
    return isServed && this.#lanesOut.every((lane) => this.#outlets.has(lane));
  }

  /** Whether this worker may cut its streams without harm to the peer. */
  get isReleased(): boolean {
    return this.#farewell.isReleased;
  }

  get hasLeft(): boolean {
    return this.#farewell.hasLeft;
  }

  /** Why the streams are not open yet, as far as this worker knows. */
  get obstacle(): string {
    const failures = [...this.#inlets.values()].map((inlet) => inlet.lastFailure);
    const why = failures.find((failure) => failure !== "") ?? "it has not connected back";
    return `${describeRank(this.#options, this.#rank)}: ${why}`;
  }

  get bulkOutlet(): Outlet | undefined {
    return this.#outlets.get("bulk");
  }

  get bulkInlet(): Inlet | undefined {
    return this.#inlets.get("bulk");
  }

  /** Where bulk payloads go; undefined when they go with their frames. */
  get outbox(): SharedOutbox | undefined {
    return this.#outbox?.isOpened ? this.#outbox : undefined;
  }

  /** A bulk payload that lay in shared memory has been read. */
  taken(): void {
    this.#inbox?.take();
  }

  /** Tells the peer how many have been. */
  reportTaken(): void {
    this.#inbox?.report();
  }

  /** Takes a stream over that the peer pulls, or returns why it cannot. */
  admit(lane: LaneName, call: PullCall, cut: () => void): FleetError | undefined {
    if (!this.#lanesOut.includes(lane) || this.#outlets.has(lane)) {
      const text = `rank ${this.#rank} may not pull the ${lane} lane of rank ${this.#options.rank}`;
      return new FleetError("USAGE", this.#outlets.has(lane) ? `${text} twice` : text);
    }
    const events = {
      drain: () => {
        if (lane === "bulk" && !this.#isOver) this.#events.drain();
      },
      stuck: () => this.#lose("was lost: it does not read what it is sent"),
      over: () => this.#outletOver(),
    };
    const outlet = new Outlet(call, events, cut);
    this.#outlets.set(lane, outlet);
    const memory = lane === "bulk" ? this.#outbox?.ticket : undefined;
    const json: Hello = { ...this.#helloOf(this.#options.rank), memory };
    outlet.write(encodeNotice(this.#ownScope, "hello", { json }));
    if (lane === "small" && this.#greeted.has("bulk")) this.#answerOffer();
    this.#events.changed();
    return undefined;
  }

  sendSmall(frame: Buffer): void {
    this.#outlets.get("small")?.write(frame);
  }

  sayGoodbye(): void {
    const goodbye = encodeNotice(this.#ownScope, "goodbye");
    for (const outlet of this.#outlets.values()) outlet.write(goodbye);
  }

  /** Tells why on every stream: the peer may come to the end of one long before that of another. */
  sayAborted(reason: PlainError): void {
    const abort = encodeNotice(this.#ownScope, "abort", { json: reason });
    for (const outlet of this.#outlets.values()) outlet.write(abort);
  }

  /** What the peer has last said of its progress; undefined when no ring operation is its turn. */
  get progress(): Partial<RingProgress> | undefined {
    return this.#progress;
  }

  /** To be called once every {@link PULSE_MS}. */
  beat(nowMs: number, progress: RingProgress | undefined): void {
    this.sendSmall(encodeNotice(this.#ownScope, "alive", { json: progress }));
    const silentMs = this.#silence.lengthAt(nowMs);
    if (!this.#greeted.has("small") || this.#farewell.hasLeft) return;
    if (silentMs < this.#options.silenceTimeoutMs) return;
    this.#lose(`was lost: silent for ${Math.round(silentMs)} ms`);
  }

  /** Ends what this worker sends. Resolves when the streams are gone; no event follows. */
  async endOutlets(): Promise<void> {
    this.#isOver = true;
    this.#outbox?.close();
    this.#inbox?.close();
    clearTimeout(this.#account);
    const outlets = [...this.#outlets.values()];
    for (const outlet of outlets) outlet.end();
    await Promise.all(outlets.map(({ closed }) => closed));
  }

  /** Drops what the peer has not read. */
  cutOutlets(): void {
    for (const outlet of this.#outlets.values()) outlet.cut();
  }

  closeInlets(): void {
    for (const inlet of this.#inlets.values()) inlet.close();
  }

  #pull(lane: LaneName): Inlet {
    const { experimentId, generation, joinToken, peers } = this.#options;
    const request: PullRequest = {
      experimentId,
      generation,
      receiverRank: this.#options.rank,
      senderRank: this.#rank,
      lane: lane === "bulk" ? Lane.LANE_BULK : Lane.LANE_SMALL,
      protocolVersion: PROTOCOL_VERSION,
      joinToken,
    };
    const address = peers[this.#rank]?.address ?? "";
    return new Inlet(openClient(address, lane, this.#options.transport), request, {
      message: (bytes) => this.#receive(lane, bytes),
      over: (because) => this.#inletOver(because),
      refused: (code, message) => this.#refused(code, message),
    });
  }

  #receive(lane: LaneName, bytes: Buffer): void {
    if (this.#isOver) return;
    this.#silence.heard();
    try {
      const shared = lane === "bulk" ? this.#inbox?.data : undefined;
      for (const frame of framesIn(bytes)) {
        // Whatever came before may have ended the generation, and with it the shared memory.
        if (this.#isOver) return;
        this.#dispatch(lane, decodeFrame(frame, this.#peerScope, shared));
      }
    } catch (thrown) {
      this.refuse(thrown);
    }
  }

  /** A frame of the peer's is not what it should be. */
  refuse(thrown: unknown): void {
    const { message, detail } = FleetError.from(thrown);
    this.#lose(`sent what cannot be used: ${message}`, detail, thrown);
  }

  #dispatch(lane: LaneName, frame: Frame): void {
    const isHello = frame.kind === "hello";
    if (this.#greeted.has(lane) === isHello) {
      throw frameError(isHello ? "REPEATED" : "REORDERED", `${frame.kind} is not next`);
    }
    switch (frame.kind) {
      case "hello":
        this.#greet(lane, readJson(frame));
        return;
      case "alive":
        this.#progress = frame.dtype === "json" ? readJson(frame) : undefined;
        return;
      case "abort":
        this.#events.lost(this.#reported(readJson(frame)));
        return;
      case "goodbye":
        this.#goodbye(lane);
        return;
      case "seen":
        this.#farewell.seen();
        this.#events.changed();
        return;
      case "memory":
        this.#outbox?.opened();
        return;
      case "taken":
        this.#outbox?.taken(frame.sequence);
        this.#events.drain();
        return;
      case "start-reduce":
      case "start-scatter":
      case "start-broadcast":
      case "gather":
      case "sum":
      case "barrier":
      case "reduce":
      case "scatter":
      case "broadcast":
      case "share":
      case "summed":
      case "copied":
        if (this.#parted.has(lane)) throw frameError("REORDERED", `${frame.kind} after goodbye`);
        this.#events.frame(lane, frame);
    }
  }

  #goodbye(lane: LaneName): void {
    if (this.#parted.has(lane)) throw frameError("REPEATED", "goodbye twice");
    this.#parted.add(lane);
    if (!this.#farewell.goodbye()) return;
    this.sendSmall(encodeNotice(this.#ownScope, "seen"));
    this.#events.changed();
    this.#events.left();
  }

  #greet(lane: LaneName, hello: Partial<Hello>): void {
    this.#checkHello(hello);
    this.#greeted.add(lane);
    const memory = hello.memory && this.#options.memoryHost?.open(hello.memory);
    if (memory) {
      this.#inbox = new SharedInbox(memory, (sequence) =>
        this.sendSmall(encodeNotice(this.#ownScope, "taken", { sequence })),
      );
      if (this.#outlets.has("small")) this.#answerOffer();
    }
    this.#events.changed();
  }

  /** Tells the peer that its memory is open, once there is a lane to tell it on. */
  #answerOffer(): void {
    if (this.#inbox) this.sendSmall(encodeNotice(this.#ownScope, "memory"));
  }

  #helloOf(rank: number): Hello {
    const { peers, wire } = this.#options;
    return { worker: peers[rank]?.workerId ?? "", worldSize: peers.length, wire };
  }

  #checkHello(hello: Partial<Hello>): void {
    const expected = this.#helloOf(this.#rank);
    for (const key of ["worker", "worldSize", "wire"] as const) {
      if (hello[key] === expected[key]) continue;
      throw frameError("MISMATCHED", `its ${key} is ${hello[key]}, expected ${expected[key]}`);
    }
  }

  /** The peer says why it ended the generation; it may have been told by another in turn. */
  #reported(reason: Partial<PlainError>): FleetError {
    const { code = "UNEXPECTED", message = "", detail = {} } = reason;
    if ("rank" in detail) {
      return new FleetError("GENERATION_ABORTED", message, { ...detail, reportedBy: this.#rank });
    }
    return blame(this.#options, this.#rank, `stopped: ${message}`, { ...detail, cause: code });
  }

  #inletOver(because: string): void {
    if (this.#isOver) return;
    if (!this.#farewell.hasLeft) {
      this.#lose(`was lost: ${because}`);
      return;
    }
    this.#farewell.gone();
    this.#events.changed();
  }

  /** Less telling than the end of an inlet, which says why: so that has a moment to come first. */
  #outletOver(): void {
    if (this.#isOver || this.#farewell.hasLeft) return;
    this.#account ??= setTimeout(() => {
      if (!this.#farewell.hasLeft) this.#lose("was lost: it stopped reading");
    }, ACCOUNT_MS);
  }

  #refused(code: FleetError["code"], message: string): void {
    if (this.#isOver) return;
    const isUntrusted = code === "TLS_REFUSED";
    const because = isUntrusted ? message : `refused rank ${this.#options.rank}: ${message}`;
    const error = blame(this.#options, this.#rank, because);
    const isOurs = isUntrusted || code === "JOIN_REFUSED" || code === "VERSION_MISMATCH";
    this.#events.lost(isOurs ? new FleetError(code, error.message, error.detail) : error);
  }

  #lose(because: string, detail: FleetError["detail"] = {}, cause?: unknown): void {
    this.#events.lost(blame(this.#options, this.#rank, because, detail, cause));
  }
}
