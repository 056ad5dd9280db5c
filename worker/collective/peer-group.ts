/** A gang's collectives over gRPC, as the main thread sees them. */

import assert from "node:assert/strict";
import type { FleetError } from "../../proto/errors.ts";
import type { Transport } from "../../proto/transport.ts";
import { ConnectedGroup } from "./connected-group.ts";
import type { ExchangeLink } from "./exchange.ts";
import type { Wire } from "./floats.ts";
import type { Membership } from "./membership.ts";
import type { PeerServer } from "./peer-server.ts";
import type { SharedFloats } from "./process-group.ts";
import type { GroupStats } from "./reduce-stats.ts";

export interface JoinOptions extends Membership {
  readonly server: PeerServer;
  /** Element type in which large all-reduces travel. Sums are taken in f32 either way. */
  readonly wire: Wire;
  readonly formationTimeoutMs: number;
  readonly joinToken: string;
  /** How the peers are called. Default plain text. */
  readonly transport?: Transport;
  /** How long one collective may take once its turn has come. Default: as {@link Deadlines} say. */
  readonly opTimeoutMs?: number | undefined;
  /** A peer whose main thread says nothing for longer is lost. Default 4 s. */
  readonly silenceTimeoutMs?: number;
  /** Whether bulk data between workers of one host may go through shared memory. Default true. */
  readonly sharedMemory?: boolean;
  /** Aborts the formation, or the group once it has formed. */
  readonly signal?: AbortSignal;
}

/**
 * The members' collectives, on the main thread. Every operation is called by all ranks in the same
 * order; it resolves when it is complete on this rank, or rejects with GENERATION_ABORTED. Nobody
 * may touch a buffer meanwhile; after a rejection its contents are undefined.
 */
export interface PeerGroup {
  readonly rank: number;
  readonly worldSize: number;
  readonly opTimeoutMs: number;
  /** Resolves with the reason once the generation has ended early; pending for ever otherwise. */
  readonly failed: Promise<FleetError>;
  /**
   * Lets the engine threads of all ranks do small collectives among themselves, if they share
   * memory. Called by all ranks.
   *
   * @param control where the engine thread says what it does: see bridge-layout.ts
   */
  openExchange(control: SharedArrayBuffer): Promise<ExchangeLink | undefined>;
  /**
   * Zeros, where sums are fastest: on one host all ranks read one another's as they lie. Called by
   * all ranks with the same length. The memory lasts as long as somebody holds it.
   */
  allocate(length: number): Promise<SharedFloats>;
  /** Replaces `buffer` by its sum over all ranks. Several may be under way. */
  allReduce(buffer: SharedFloats): Promise<void>;
  /**
   * As {@link allReduce}, but for the part of this rank only: `buffer` holds one equal part per
   * rank, and afterwards the other ranks' parts are undefined.
   */
  reduceScatter(buffer: SharedFloats): Promise<void>;
  allGather(own: Float32Array): Promise<Float32Array>;
  /** As allGather, in place: `all` holds one equal part per rank, own part filled in. */
  allGatherInto(all: Float32Array): Promise<void>;
  /** Overwrites `buffer` on every other rank by `root`'s, bit for bit. */
  broadcast(buffer: SharedFloats, root: number): Promise<void>;
  barrier(): Promise<void>;
  /** Ends the generation: each pending and each later operation rejects, here and on all peers. */
  abort(error: FleetError): void;
  /**
   * Leaves after the last operation: waits for what is under way, then for the peers to have read
   * all of it. Resolves when no stream, socket or timer is left. Does not reject.
   */
  close(): Promise<void>;
  /** Seconds during which at least one all-reduce of this thread's was under way. */
  readonly reduceSeconds: number;
  /** Of this thread and of the engine thread's exchange. */
  stats(): GroupStats;
}

/**
 * Connects to every peer of the generation and resolves when all of them have done the same.
 *
 * @throws {FleetError} GENERATION_ABORTED when it does not form in time or is aborted,
 *   JOIN_REFUSED, TLS_REFUSED, VERSION_MISMATCH
 */
export async function joinGroup(options: JoinOptions): Promise<PeerGroup> {
  assert.ok(options.rank >= 0 && options.rank < options.peers.length, "rank is a place in peers");
  const group = new ConnectedGroup(options);
  await group.form(options.formationTimeoutMs);
  return group;
}
