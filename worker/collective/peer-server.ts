import os from "node:os";
import { logVerbosity, Server, setLogVerbosity, status } from "@grpc/grpc-js";
import { type ErrorCode, FleetError } from "../../proto/errors.ts";
import { Lane, type PullRequest } from "../../proto/gen/peer.ts";
import { type ConnectionLimits, Connections, openGrpcListener } from "../../proto/grpc-listener.ts";
import { checkJoinToken } from "../../proto/join-token.ts";
import { hostPort, PLAINTEXT, type Transport } from "../../proto/transport.ts";
import { PROTOCOL_VERSION } from "../../proto/version.ts";
import { within } from "../../proto/within.ts";
import { type PullCall, peerService, serverOptions, toStatus } from "./peer-service.ts";
import { findMemoryHost, type MemoryHost } from "./shared-memory.ts";

/** How long connections may take to close in good order. */
const SHUTDOWN_MS = 500;
/** A peer has a connection for each lane, and a host perhaps 64 workers of two generations. */
const CONNECTION_LIMITS = {
  all: { perPeer: 1_024, total: 8_192 },
  strangers: { perPeer: 256, total: 1_024 },
  strangerMs: 10_000,
} as const;
/** Ids of experiments are shorter; answers repeat them. */
const ID_LENGTH_MAX = 100;

/** Why a peer was refused: the labels of a metric. A peer that is only early is not counted. */
export const PEER_REFUSAL_REASONS = [
  /** One too many, or one on which no token was shown. */
  "connection",
  "join-token",
  "version",
  /** Of a generation that is over here. */
  "generation",
  /** A rank, lane or id that it may not ask for, or a lane that it has already. */
  "malformed",
] as const;

export type PeerRefusalReason = (typeof PEER_REFUSAL_REASONS)[number];

export interface PeerServerOptions {
  /** Interface to listen on, e.g. "0.0.0.0". */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Cluster secret; empty when the cluster has none. */
  readonly joinToken: string;
  /** Default plain text. */
  readonly transport?: Transport;
  /** In place of the server's own. */
  readonly connectionLimits?: ConnectionLimits;
  /** Told of each connection and stream that was not taken. */
  readonly onRefused?: (reason: PeerRefusalReason, peer: string) => void;
}

/** A generation that this worker has joined or is joining. */
interface HostedGeneration {
  readonly experimentId: string;
  readonly generation: number;
  readonly rank: number;
  /**
   * Takes the stream over, or returns why it cannot.
   *
   * @param cut closes the connection under the stream
   */
  admit(
    lane: "small" | "bulk",
    receiverRank: number,
    call: PullCall,
    cut: () => void,
  ): FleetError | undefined;
  /** The server is closing. Resolves when the generation's streams are gone. */
  shutDown(): Promise<void>;
}

/** This worker's gRPC server for its peers: one per process, on the main thread. */
export interface PeerServer {
  /** HOST:PORT as bound; the host is this machine's name where a wildcard was bound. */
  readonly address: string;
  readonly port: number;
  /** Undefined where workers of one host cannot share memory. */
  readonly memoryHost: MemoryHost | undefined;
  /** Serves the streams of a generation until the returned function is called. */
  host(generation: HostedGeneration): () => void;
  /** Aborts the groups that are still open, and stops listening. */
  close(): Promise<void>;
}

/** @throws {FleetError} PORT_IN_USE; USAGE when the address cannot be bound for another reason */
export async function startPeerServer(options: PeerServerOptions): Promise<PeerServer> {
  // grpc-js prints a line of its own for errors that it also throws.
  setLogVerbosity(logVerbosity.NONE);
  const { host, port, transport = PLAINTEXT, onRefused = () => {} } = options;
  const server = new Server(serverOptions);
  const limits = options.connectionLimits ?? CONNECTION_LIMITS;
  const connections = new Connections(limits, (peer) => onRefused("connection", peer));
  const hosted = new HostedGenerations({ joinToken: options.joinToken, connections, onRefused });
  server.addService(peerService, { pull: (call: PullCall) => hosted.serve(call) });
  const memoryHost = findMemoryHost();
  const listener = await openGrpcListener({ server, connections, transport, host, port });
  return {
    address: hostPort(reachableName(host), listener.port),
    port: listener.port,
    memoryHost,
    host: (generation) => hosted.add(generation),
    close: async () => {
      await hosted.shutDown();
      const stopped = listener.stop();
      // Lets out what the streams' ends still have in the sockets' buffers.
      await within(new Promise((resolve) => server.tryShutdown(resolve)), SHUTDOWN_MS);
      server.forceShutdown();
      connections.cutAll();
      await stopped;
    },
  };
}

function reachableName(host: string): string {
  return host === "0.0.0.0" || host === "::" ? os.hostname() : host;
}

/** Finds for each incoming stream the generation that it belongs to. */
class HostedGenerations {
  readonly #joinToken: string;
  readonly #connections: Connections;
  readonly #onRefused: (reason: PeerRefusalReason, peer: string) => void;
  readonly #hosted = new Map<string, HostedGeneration>();
  /** Newest generation joined, by experiment: an older one will not come back. */
  readonly #newest = new Map<string, number>();

  constructor(options: {
    readonly joinToken: string;
    readonly connections: Connections;
    readonly onRefused: (reason: PeerRefusalReason, peer: string) => void;
  }) {
    this.#joinToken = options.joinToken;
    this.#connections = options.connections;
    this.#onRefused = options.onRefused;
  }

  add(generation: HostedGeneration): () => void {
    const key = keyOf(generation);
    if (this.#hosted.has(key)) {
      throw new FleetError("STATE_CONFLICT", `${key} has been joined already`);
    }
    this.#hosted.set(key, generation);
    const newest = this.#newest.get(generation.experimentId) ?? 0;
    this.#newest.set(generation.experimentId, Math.max(newest, generation.generation));
    return () => this.#hosted.delete(key);
  }

  serve(call: PullCall): void {
    try {
      this.#check(call.request);
      this.#connections.trust(call.getPeer());
      this.#admit(call);
    } catch (thrown) {
      const error = FleetError.from(thrown);
      this.#onRefused(refusalReason(error.code), call.getPeer());
      call.emit("error", toStatus(error));
    }
  }

  async shutDown(): Promise<void> {
    await Promise.all([...this.#hosted.values()].map((generation) => generation.shutDown()));
  }

  /** @throws {FleetError} VERSION_MISMATCH, JOIN_REFUSED, USAGE */
  #check(request: PullRequest): void {
    if (request.protocolVersion !== PROTOCOL_VERSION) {
      const theirs = `the caller speaks protocol version ${request.protocolVersion}`;
      throw new FleetError("VERSION_MISMATCH", `${theirs}, this worker ${PROTOCOL_VERSION}`);
    }
    checkJoinToken(request.joinToken, this.#joinToken);
    if (request.experimentId.length > ID_LENGTH_MAX) {
      throw new FleetError("USAGE", `an experiment's id has ${ID_LENGTH_MAX} characters at most`);
    }
  }

  /** @throws {FleetError} GENERATION_ABORTED for one that is over, USAGE */
  #admit(call: PullCall): void {
    const { request } = call;
    const generation = this.#hosted.get(keyOf(request));
    if (generation === undefined) {
      this.#checkNotOver(request);
      // Asked again soon: it is no refusal.
      const details = `has not joined ${keyOf(request)} yet`;
      call.emit("error", { code: status.UNAVAILABLE, details });
      return;
    }
    const lane = laneOf(request.lane);
    if (lane === undefined || generation.rank !== request.senderRank) {
      const asked = `lane ${request.lane} of rank ${request.senderRank}`;
      throw new FleetError("USAGE", `asked for ${asked}, this worker has rank ${generation.rank}`);
    }
    const peer = call.getPeer();
    const cut = (): void => this.#connections.cut(peer);
    const refusal = generation.admit(lane, request.receiverRank, call, cut);
    if (refusal !== undefined) throw refusal;
  }

  #checkNotOver(request: PullRequest): void {
    const newest = this.#newest.get(request.experimentId) ?? 0;
    if (newest < request.generation) return;
    const text = `${keyOf(request)} is over here; the newest is ${newest}`;
    throw new FleetError("GENERATION_ABORTED", text);
  }
}

function refusalReason(code: ErrorCode): PeerRefusalReason {
  switch (code) {
    case "JOIN_REFUSED":
      return "join-token";
    case "VERSION_MISMATCH":
      return "version";
    case "GENERATION_ABORTED":
      return "generation";
    default:
      return "malformed";
  }
}

function laneOf(lane: Lane): "small" | "bulk" | undefined {
  if (lane === Lane.LANE_SMALL) return "small";
  return lane === Lane.LANE_BULK ? "bulk" : undefined;
}

function keyOf(id: { readonly experimentId: string; readonly generation: number }): string {
  return `generation ${id.generation} of experiment ${id.experimentId}`;
}
