/**
 * The streams of one generation: from every peer a small lane, and from the ring predecessor the
 * bulk lane; the same to every peer and to the successor. Formation, loss and leave-taking happen
 * here; what the frames between mean is the lanes' affair.
 */

import { FleetError, type PlainError } from "../../proto/errors.ts";
import { Lane, type PullRequest } from "../../proto/gen/peer.ts";
import { PROTOCOL_VERSION } from "../../proto/version.ts";
import { Farewell } from "./farewell.ts";
import {
  decodeFrame,
  encodeNotice,
  type Frame,
  type FrameScope,
  frameError,
  hashExperiment,
} from "./frame.ts";
import { Inlet } from "./inlet.ts";
import { Latch, within } from "./latch.ts";
import {
  blame,
  describeGeneration,
  describeRank,
  type Membership,
  otherRanks,
  predecessorOf,
  successorOf,
  whichGeneration,
} from "./membership.ts";
import { Outlet } from "./outlet.ts";
import type { PeerServer } from "./peer-server.ts";
import type { PullCall } from "./peer-service.ts";

type LaneName = "small" | "bulk";

/** How long a peer's own account of why it left is waited for, once it has stopped reading. */
const ACCOUNT_MS = 500;
/** How long the reason of an abort may take to reach the peers. */
const FLUSH_MS = 500;
/** After which a cut stream is left to the server; longer than keepalive needs to notice. */
const CUT_MS = 5000;

export interface LinkEvents {
  /** A frame of an operation, in the order sent. Throws what is wrong with it. */
  frame(rank: number, lane: LaneName, frame: Frame): void;
  /** The bulk outlet takes more. */
  drain(): void;
  /** A peer has said goodbye on every stream. */
  left(rank: number): void;
  /** The generation cannot go on. Called once. */
  broken(error: FleetError): void;
}

export interface LinkOptions extends Membership {
  readonly server: PeerServer;
  readonly wire: string;
  readonly joinToken: string;
}

/** What a member tells each peer first, so that a gang that disagrees about itself never starts. */
interface Hello {
  readonly worker: string;
  readonly worldSize: number;
  readonly wire: string;
}

interface Link {
  readonly scope: FrameScope;
  readonly farewell: Farewell;
  readonly inlets: Map<LaneName, Inlet>;
  readonly outlets: Map<LaneName, Outlet>;
  /** Lanes on which the peer's hello has arrived. */
  readonly greeted: Set<LaneName>;
  /** Lanes on which the peer's goodbye has arrived. */
  readonly parted: Set<LaneName>;
  account: NodeJS.Timeout | undefined;
}

export class Links {
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #scope: FrameScope;
  readonly #links = new Map<number, Link>();
  readonly #unhost: () => void;
  readonly #formed = new Latch();
  readonly #released = new Latch();
  #isBroken = false;
  #cut: Promise<void> | undefined;

  constructor(options: LinkOptions, events: LinkEvents) {
    this.#options = options;
    this.#events = events;
    const experimentHash = hashExperiment(options.experimentId);
    const { generation } = options;
    this.#scope = { experimentHash, generation, source: options.rank };
    for (const rank of otherRanks(options)) {
      this.#links.set(rank, {
        scope: { experimentHash, generation, source: rank },
        farewell: new Farewell(this.#lanesFrom(rank).length),
        inlets: new Map(),
        outlets: new Map(),
        greeted: new Set(),
        parted: new Set(),
        account: undefined,
      });
    }
    this.#unhost = options.server.host({
      experimentId: options.experimentId,
      generation,
      rank: options.rank,
      admit: (lane, rank, call) => this.#admit(lane, rank, call),
      shutDown: () => {
        const text = `${describeGeneration(options)} ended: this worker's peer server closed`;
        this.#break(new FleetError("GENERATION_ABORTED", text, whichGeneration(options)));
        return this.cut();
      },
    });
    for (const [rank, link] of this.#links) {
      for (const lane of this.#lanesFrom(rank)) link.inlets.set(lane, this.#pull(rank, lane));
    }
    this.#settle();
  }

  /** Resolves when every stream in both directions is open. */
  get formed(): Promise<void> {
    return this.#formed.opened;
  }

  /** Who is not connected both ways yet, each with what is known of the reason. */
  describeAbsent(): string {
    return [...this.#links]
      .filter(([rank]) => !this.#isWhole(rank))
      .map(([rank, link]) => {
        const failures = [...link.inlets.values()].map((inlet) => inlet.lastFailure);
        const why = failures.find((failure) => failure !== "") ?? "it has not connected back";
        return `${describeRank(this.#options, rank)}: ${why}`;
      })
      .join("; ");
  }

  get absentRanks(): number[] {
    return [...this.#links.keys()].filter((rank) => !this.#isWhole(rank));
  }

  /** Where this worker's bulk data goes; undefined for a worker alone. */
  get bulk(): Outlet | undefined {
    return this.#links.get(successorOf(this.#options))?.outlets.get("bulk");
  }

  sendToAll(frame: Buffer): void {
    for (const link of this.#links.values()) link.outlets.get("small")?.write(frame);
  }

  pauseBulk(): void {
    this.#links.get(predecessorOf(this.#options))?.inlets.get("bulk")?.pause();
  }

  resumeBulk(): void {
    this.#links.get(predecessorOf(this.#options))?.inlets.get("bulk")?.resume();
  }

  hasLeft(rank: number): boolean {
    return this.#links.get(rank)?.farewell.hasLeft ?? false;
  }

  /** Says goodbye and resolves once every peer has read it, or `timeoutMs` later. */
  async leave(timeoutMs: number): Promise<void> {
    const goodbye = encodeNotice(this.#scope, "goodbye");
    for (const link of this.#links.values()) {
      for (const outlet of link.outlets.values()) outlet.write(goodbye);
    }
    await within(this.#released.opened, timeoutMs);
    await this.cut();
  }

  /**
   * Ends every stream; with a reason, tells the peers first. Resolves when no stream, socket or
   * timer of this generation is left on this side.
   */
  cut(reason?: PlainError): Promise<void> {
    this.#isBroken = true;
    this.#cut ??= this.#tearDown(reason);
    return this.#cut;
  }

  async #tearDown(reason: PlainError | undefined): Promise<void> {
    this.#unhost();
    this.#released.open();
    if (reason !== undefined) this.sendToAll(encodeNotice(this.#scope, "abort", { json: reason }));
    const links = [...this.#links.values()];
    const outlets = links.flatMap((link) => [...link.outlets.values()]);
    for (const link of links) clearTimeout(link.account);
    for (const outlet of outlets) outlet.end();
    const closed = Promise.all(outlets.map((outlet) => outlet.closed));
    // Were the inlets closed at once, a peer might notice that before it reads the reason.
    if (reason !== undefined) await within(closed, FLUSH_MS);
    for (const link of links) for (const inlet of link.inlets.values()) inlet.close();
    await within(closed, CUT_MS);
  }

  #lanesFrom(rank: number): LaneName[] {
    return rank === predecessorOf(this.#options) ? ["small", "bulk"] : ["small"];
  }

  #lanesTo(rank: number): LaneName[] {
    return rank === successorOf(this.#options) ? ["small", "bulk"] : ["small"];
  }

  #pull(rank: number, lane: LaneName): Inlet {
    const { experimentId, generation, joinToken } = this.#options;
    const request: PullRequest = {
      experimentId,
      generation,
      receiverRank: this.#options.rank,
      senderRank: rank,
      lane: lane === "bulk" ? Lane.LANE_BULK : Lane.LANE_SMALL,
      protocolVersion: PROTOCOL_VERSION,
      joinToken,
    };
    return new Inlet(this.#options.peers[rank]?.address ?? "", lane, request, {
      message: (bytes) => this.#receive(rank, lane, bytes),
      over: (because) => this.#inletOver(rank, because),
      refused: (code, message) => this.#refused(rank, code, message),
    });
  }

  #admit(lane: LaneName, rank: number, call: PullCall): FleetError | undefined {
    const link = this.#links.get(rank);
    if (link === undefined || !this.#lanesTo(rank).includes(lane) || link.outlets.has(lane)) {
      const text = `rank ${rank} may not pull the ${lane} lane of rank ${this.#options.rank}`;
      return new FleetError("USAGE", link?.outlets.has(lane) ? `${text} twice` : text);
    }
    const outlet = new Outlet(call, {
      drain: () => {
        if (lane === "bulk" && !this.#isBroken) this.#events.drain();
      },
      over: () => this.#outletOver(rank),
    });
    link.outlets.set(lane, outlet);
    const { peers, wire } = this.#options;
    const worker = peers[this.#options.rank]?.workerId ?? "";
    const hello: Hello = { worker, worldSize: peers.length, wire };
    outlet.write(encodeNotice(this.#scope, "hello", { json: hello }));
    this.#settle();
    return undefined;
  }

  #receive(rank: number, lane: LaneName, bytes: Buffer): void {
    const link = this.#links.get(rank);
    if (this.#isBroken || link === undefined) return;
    try {
      this.#dispatch(rank, lane, decodeFrame(bytes, link.scope), link);
    } catch (thrown) {
      const error = FleetError.from(thrown);
      const because = `sent what cannot be used: ${error.message}`;
      this.#break(blame(this.#options, rank, because, error.detail, thrown));
    }
  }

  #dispatch(rank: number, lane: LaneName, frame: Frame, link: Link): void {
    if (link.greeted.has(lane) === (frame.kind === "hello")) {
      const fault = frame.kind === "hello" ? "REPEATED" : "REORDERED";
      throw frameError(fault, `${frame.kind} ${frame.kind === "hello" ? "twice" : "before hello"}`);
    }
    switch (frame.kind) {
      case "hello":
        this.#checkHello(rank, readJson(frame));
        link.greeted.add(lane);
        this.#settle();
        return;
      case "abort":
        this.#break(this.#reported(rank, readJson(frame)));
        return;
      case "goodbye":
        if (link.parted.has(lane)) throw frameError("REPEATED", "goodbye twice");
        link.parted.add(lane);
        this.#goodbye(rank, link);
        return;
      case "seen":
        link.farewell.seen();
        this.#settle();
        return;
      case "start-reduce":
      case "start-broadcast":
      case "gather":
      case "sum":
      case "barrier":
      case "reduce":
      case "broadcast":
        if (link.parted.has(lane)) throw frameError("REORDERED", `${frame.kind} after goodbye`);
        this.#events.frame(rank, lane, frame);
    }
  }

  #goodbye(rank: number, link: Link): void {
    if (!link.farewell.goodbye()) return;
    link.outlets.get("small")?.write(encodeNotice(this.#scope, "seen"));
    this.#settle();
    this.#events.left(rank);
  }

  #checkHello(rank: number, hello: Partial<Hello>): void {
    const { peers, wire } = this.#options;
    const expected: Hello = {
      worker: peers[rank]?.workerId ?? "",
      worldSize: peers.length,
      wire,
    };
    for (const key of ["worker", "worldSize", "wire"] as const) {
      if (hello[key] === expected[key]) continue;
      throw frameError("MISMATCHED", `its ${key} is ${hello[key]}, expected ${expected[key]}`);
    }
  }

  /** A peer says why it ended the generation; it may have been told by another in turn. */
  #reported(rank: number, reason: Partial<PlainError>): FleetError {
    const { code = "UNEXPECTED", message = "", detail = {} } = reason;
    if ("rank" in detail) {
      return new FleetError("GENERATION_ABORTED", message, { ...detail, reportedBy: rank });
    }
    return blame(this.#options, rank, `stopped: ${message}`, { ...detail, cause: code });
  }

  #inletOver(rank: number, because: string): void {
    const link = this.#links.get(rank);
    if (this.#isBroken || link === undefined) return;
    if (!link.farewell.hasLeft) {
      this.#break(blame(this.#options, rank, `was lost: ${because}`));
      return;
    }
    link.farewell.gone();
    this.#settle();
  }

  /** Less telling than the end of an inlet, which says why: so that has a moment to come first. */
  #outletOver(rank: number): void {
    const link = this.#links.get(rank);
    if (this.#isBroken || link === undefined || link.farewell.hasLeft) return;
    link.account ??= setTimeout(() => {
      if (link.farewell.hasLeft) return;
      this.#break(blame(this.#options, rank, "was lost: it stopped reading"));
    }, ACCOUNT_MS);
  }

  #refused(rank: number, code: FleetError["code"], message: string): void {
    const because = `refused the connection: ${message}`;
    const error = blame(this.#options, rank, because);
    const isOurs = code === "JOIN_REFUSED" || code === "VERSION_MISMATCH";
    this.#break(isOurs ? new FleetError(code, error.message, error.detail) : error);
  }

  #isWhole(rank: number): boolean {
    const link = this.#links.get(rank);
    return (
      link !== undefined &&
      this.#lanesFrom(rank).every((lane) => link.greeted.has(lane)) &&
      this.#lanesTo(rank).every((lane) => link.outlets.has(lane))
    );
  }

  #settle(): void {
    if (this.absentRanks.length === 0) this.#formed.open();
    if ([...this.#links.values()].every((link) => link.farewell.isReleased)) this.#released.open();
  }

  #break(error: FleetError): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    this.#events.broken(error);
  }
}

function readJson(frame: Frame): Readonly<Record<string, never>> {
  try {
    return JSON.parse(Buffer.from(frame.payload).toString());
  } catch (cause) {
    throw frameError("MALFORMED", `${frame.kind} without JSON: ${cause}`);
  }
}
