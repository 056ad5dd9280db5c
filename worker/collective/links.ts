/** The links to all peers of one generation: how they form, break and part together. */

import { FleetError, type PlainError } from "../../proto/errors.ts";
import { within } from "../../proto/within.ts";
import type { RingProgress } from "./bulk-lane.ts";
import { type Frame, type FrameScope, hashExperiment } from "./frame.ts";
import { Latch } from "./latch.ts";
import {
  describeGeneration,
  otherRanks,
  predecessorOf,
  successorOf,
  whichGeneration,
} from "./membership.ts";
import type { Outlet } from "./outlet.ts";
import { type LaneName, PeerLink, type PeerLinkOptions, PULSE_MS } from "./peer-link.ts";
import type { PeerServer } from "./peer-server.ts";
import type { SharedOutbox } from "./shared-slots.ts";

/** How long the reason of an abort may take to reach the peers. */
const FLUSH_MS = 500;
/** How long a cut stream may take to close: one to a stopped process does not, by itself. */
const CUT_MS = 1000;

export interface LinksOptions extends PeerLinkOptions {
  readonly server: PeerServer;
}

export interface LinksEvents {
  /** A frame of an operation, in the order sent. Throws what is wrong with it. */
  frame(rank: number, lane: LaneName, frame: Frame): void;
  /** The successor takes more on the bulk lane. */
  drain(): void;
  /** This worker's, for the peers to know. */
  progress(): RingProgress | undefined;
  /** A peer has said goodbye on every stream. */
  left(): void;
  /** The generation cannot go on. Called once. */
  broken(error: FleetError): void;
}

export class Links {
  readonly #options: LinksOptions;
  readonly #events: LinksEvents;
  readonly #scope: FrameScope;
  readonly #links = new Map<number, PeerLink>();
  readonly #unhost: () => void;
  readonly #pulse: NodeJS.Timeout;
  readonly #formed = new Latch();
  readonly #released = new Latch();
  #isBroken = false;
  #cut: Promise<void> | undefined;

  /** @throws {FleetError} STATE_CONFLICT when the server hosts this generation already */
  constructor(options: LinksOptions, events: LinksEvents) {
    this.#options = options;
    this.#events = events;
    const { experimentId, generation, rank } = options;
    this.#scope = { experimentHash: hashExperiment(experimentId), generation, source: rank };
    this.#unhost = options.server.host({
      experimentId,
      generation,
      rank,
      admit: (lane, receiver, call, cut) => {
        const link = this.#links.get(receiver);
        const text = `rank ${receiver} may not pull the ${lane} lane of rank ${rank}`;
        return link === undefined ? new FleetError("USAGE", text) : link.admit(lane, call, cut);
      },
      shutDown: () => {
        const text = `${describeGeneration(options)} ended: this worker's peer server closed`;
        this.#break(new FleetError("GENERATION_ABORTED", text, whichGeneration(options)));
        return this.cut();
      },
    });
    for (const other of otherRanks(options)) this.#links.set(other, this.#linkTo(other));
    this.#pulse = setInterval(() => {
      const progress = events.progress();
      for (const link of this.#links.values()) link.beat(performance.now(), progress);
    }, PULSE_MS);
    this.#settle();
  }

  /** Resolves when every stream in both directions is open. */
  get formed(): Promise<void> {
    return this.#formed.opened;
  }

  /** Who is not connected both ways yet. */
  get absentRanks(): number[] {
    return [...this.#links].filter(([, link]) => !link.isWhole).map(([rank]) => rank);
  }

  /** The same, each with what is known of the reason. */
  describeAbsent(): string {
    const absent = [...this.#links.values()].filter((link) => !link.isWhole);
    return absent.map((link) => link.obstacle).join("; ");
  }

  /** What a peer has last said; undefined when no ring operation is its turn. */
  progressOf(rank: number): Partial<RingProgress> | undefined {
    return this.#links.get(rank)?.progress;
  }

  hasLeft(rank: number): boolean {
    return this.#links.get(rank)?.hasLeft ?? false;
  }

  /** Where this worker's bulk data goes; undefined for a worker alone. */
  get bulk(): Outlet | undefined {
    return this.#links.get(successorOf(this.#options))?.bulkOutlet;
  }

  pauseBulk(): void {
    this.#links.get(predecessorOf(this.#options))?.bulkInlet?.pause();
  }

  resumeBulk(): void {
    this.#links.get(predecessorOf(this.#options))?.bulkInlet?.resume();
  }

  /** Where payloads of bulk data go; undefined when they go with their frames. */
  get outbox(): SharedOutbox | undefined {
    return this.#links.get(successorOf(this.#options))?.outbox;
  }

  /** Tells the predecessor how many have been. */
  reportTaken(): void {
    this.#links.get(predecessorOf(this.#options))?.reportTaken();
  }

  /** A bulk frame of the predecessor's is not what it should be. */
  refuseBulk(thrown: unknown): void {
    this.#links.get(predecessorOf(this.#options))?.refuse(thrown);
  }

  /** A payload of the predecessor's that lay in shared memory has been read. */
  taken(): void {
    this.#links.get(predecessorOf(this.#options))?.taken();
  }

  sendToAll(frame: Buffer): void {
    for (const link of this.#links.values()) link.sendSmall(frame);
  }

  /** Says goodbye and resolves once every peer has read it, or `timeoutMs` later. */
  async leave(timeoutMs: number): Promise<void> {
    for (const link of this.#links.values()) link.sayGoodbye();
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
    clearInterval(this.#pulse);
    this.#released.open();
    const links = [...this.#links.values()];
    if (reason !== undefined) for (const link of links) link.sayAborted(reason);
    const ended = Promise.all(links.map((link) => link.endOutlets()));
    // Were the inlets closed at once, a peer might notice that before it reads the reason.
    if (reason !== undefined) await within(ended, FLUSH_MS);
    for (const link of links) link.closeInlets();
    await within(ended, CUT_MS);
    for (const link of links) link.cutOutlets();
  }

  #linkTo(rank: number): PeerLink {
    const unlessBroken = (action: () => void) => () => {
      if (!this.#isBroken) action();
    };
    return new PeerLink(this.#options, rank, this.#scope, {
      frame: (lane, frame) => {
        if (!this.#isBroken) this.#events.frame(rank, lane, frame);
      },
      drain: unlessBroken(() => this.#events.drain()),
      left: unlessBroken(() => this.#events.left()),
      changed: () => this.#settle(),
      lost: (error) => this.#break(error),
    });
  }

  #settle(): void {
    const links = [...this.#links.values()];
    if (links.every((link) => link.isWhole)) this.#formed.open();
    if (links.every((link) => link.isReleased)) this.#released.open();
  }

  #break(error: FleetError): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    this.#events.broken(error);
  }
}
