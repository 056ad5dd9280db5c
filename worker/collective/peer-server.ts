import type { FleetError } from "../../proto/errors.ts";

export interface PeerServerOptions {
  /** Interface to listen on, e.g. "0.0.0.0". */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Cluster secret; empty when the cluster has none. */
  readonly joinToken: string;
}

/** This worker's gRPC server for its peers: one per process, on the main thread. */
export interface PeerServer {
  /** HOST:PORT as bound; the host is this machine's name where a wildcard was bound. */
  readonly address: string;
  readonly port: number;
  /** Aborts the groups that are still open, and stops listening. */
  close(): Promise<void>;
}

/** @throws {FleetError} PORT_IN_USE */
export function startPeerServer(_options: PeerServerOptions): Promise<PeerServer> {
  return Promise.reject(new Error("unbuilt") satisfies Error | FleetError);
}
