import type { FleetError } from "../../proto/errors.ts";
import type { PeerServer } from "./peer-server.ts";
import type { SharedFloats } from "./process-group.ts";

/** A member of the gang; its rank is its place in the list. */
export interface Peer {
  readonly workerId: string;
  /** HOST:PORT of its peer server. */
  readonly address: string;
}

export interface JoinOptions {
  readonly server: PeerServer;
  readonly experimentId: string;
  readonly generation: number;
  readonly rank: number;
  /** All members in rank order, this worker included. */
  readonly peers: readonly Peer[];
  /** Element type in which large all-reduces travel. Sums are taken in f32 either way. */
  readonly wire: "f32" | "bf16";
  readonly formationTimeoutMs: number;
  readonly joinToken: string;
  /** How long one collective may take once its turn has come. Default 120 s. */
  readonly opTimeoutMs?: number;
  /** Aborts the formation, or the group once it has formed. */
  readonly signal?: AbortSignal;
}

/** What a group has moved since it formed. */
export interface GroupStats {
  readonly allReduces: number;
  /** Bytes of the buffers that were reduced, f32, not of the traffic. */
  readonly allReduceBytes: number;
  /** Time during which at least one all-reduce was under way. */
  readonly allReduceSeconds: number;
}

/**
 * The members' collectives, on the main thread. Every operation is called by all ranks in the same
 * order; it resolves when it is complete on this rank, or rejects with GENERATION_ABORTED.
 */
export interface PeerGroup {
  readonly rank: number;
  readonly worldSize: number;
  readonly opTimeoutMs: number;
  /** Resolves with the reason once the generation has ended early; pending for ever otherwise. */
  readonly failed: Promise<FleetError>;
  /** Replaces `buffer` by its sum over all ranks. Several may be under way. */
  allReduce(buffer: SharedFloats): Promise<void>;
  allGather(own: Float32Array): Promise<Float32Array>;
  /** As allGather, in place: `all` holds one equal part per rank, own part filled in. */
  allGatherInto(all: Float32Array): Promise<void>;
  broadcast(buffer: SharedFloats, root: number): Promise<void>;
  barrier(): Promise<void>;
  /** Ends the generation: every pending and every later operation rejects, here and on all peers. */
  abort(error: FleetError): void;
  /** Leaves after the last operation. Resolves when no stream, socket or timer is left. */
  close(): Promise<void>;
  stats(): GroupStats;
}

/**
 * Connects to every peer of the generation and resolves when all of them have done the same.
 *
 * @throws {FleetError} GENERATION_ABORTED when it does not form in time or is aborted, JOIN_REFUSED,
 *   VERSION_MISMATCH
 */
export function joinGroup(_options: JoinOptions): Promise<PeerGroup> {
  return Promise.reject(new Error("unbuilt"));
}
