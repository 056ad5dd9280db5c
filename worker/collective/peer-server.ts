import { createHash, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import os from "node:os";
import { logVerbosity, Server, type StatusObject, setLogVerbosity, status } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import { Lane, type PullRequest } from "../../proto/gen/peer.ts";
import { hostPort, PLAINTEXT, type Transport } from "../../proto/transport.ts";
import { PROTOCOL_VERSION } from "../../proto/version.ts";
import { within } from "./latch.ts";
import { type PullCall, peerService, serverOptions, toStatus } from "./peer-service.ts";
import { findMemoryHost, type MemoryHost } from "./shared-memory.ts";

/** How long connections may take to close in good order. */
const SHUTDOWN_MS = 500;

export interface PeerServerOptions {
  /** Interface to listen on, e.g. "0.0.0.0". */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Cluster secret; empty when the cluster has none. */
  readonly joinToken: string;
  /** Default plain text. */
  readonly transport?: Transport;
}

/** A generation that this worker has joined or is joining. */
interface HostedGeneration {
  readonly experimentId: string;
  readonly generation: number;
  readonly rank: number;
  /** Takes the stream over, or returns why it cannot. */
  admit(lane: "small" | "bulk", receiverRank: number, call: PullCall): FleetError | undefined;
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
  const server = new Server(serverOptions);
  const hosted = new HostedGenerations(options.joinToken);
  server.addService(peerService, { pull: (call: PullCall) => hosted.serve(call) });
  const memoryHost = findMemoryHost();
  // A connection to a stopped process closes only when its socket is destroyed, which grpc-js does
  // not do once it has said goodbye: so the sockets are this module's.
  const sockets = new Set<net.Socket>();
  const injector = server.createConnectionInjector(
    (options.transport ?? PLAINTEXT).serverCredentials,
  );
  const listener = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    injector.injectConnection(socket);
  });
  const port = await listen(listener, options);
  return {
    address: hostPort(reachableName(options.host), port),
    port,
    memoryHost,
    host: (generation) => hosted.add(generation),
    close: async () => {
      await hosted.shutDown();
      const closed = once(listener, "close");
      listener.close();
      // Lets out what the streams' ends still have in the sockets' buffers.
      await within(new Promise((resolve) => server.tryShutdown(resolve)), SHUTDOWN_MS);
      server.forceShutdown();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

async function listen(listener: net.Server, { host, port }: PeerServerOptions): Promise<number> {
  const address = hostPort(host, port);
  listener.listen(port, host);
  try {
    await once(listener, "listening");
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException;
    throw error.code === "EADDRINUSE"
      ? new FleetError("PORT_IN_USE", `another process listens on ${address}`, { port }, error)
      : new FleetError("USAGE", `cannot listen on ${address}: ${error.message}`, {}, error);
  }
  return (listener.address() as net.AddressInfo).port;
}

function reachableName(host: string): string {
  return host === "0.0.0.0" || host === "::" ? os.hostname() : host;
}

/** Finds for each incoming stream the generation that it belongs to. */
class HostedGenerations {
  readonly #joinToken: Buffer;
  readonly #hosted = new Map<string, HostedGeneration>();
  /** Newest generation joined, by experiment: an older one will not come back. */
  readonly #newest = new Map<string, number>();

  constructor(joinToken: string) {
    this.#joinToken = digest(joinToken);
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
    const { request } = call;
    const refusal = this.#refuse(request) ?? this.#admit(call);
    if (refusal !== undefined) call.emit("error", refusal);
  }

  async shutDown(): Promise<void> {
    await Promise.all([...this.#hosted.values()].map((generation) => generation.shutDown()));
  }

  #refuse(request: PullRequest): Partial<StatusObject> | undefined {
    if (request.protocolVersion !== PROTOCOL_VERSION) {
      const theirs = `the caller speaks protocol version ${request.protocolVersion}`;
      const text = `${theirs}, this worker ${PROTOCOL_VERSION}`;
      return toStatus(new FleetError("VERSION_MISMATCH", text));
    }
    if (!timingSafeEqual(digest(request.joinToken), this.#joinToken)) {
      return toStatus(new FleetError("JOIN_REFUSED", "the join token is wrong"));
    }
    return undefined;
  }

  #admit(call: PullCall): Partial<StatusObject> | undefined {
    const { request } = call;
    const generation = this.#hosted.get(keyOf(request));
    if (generation === undefined) return this.#absent(request);
    const lane = laneOf(request.lane);
    if (lane === undefined || generation.rank !== request.senderRank) {
      const asked = `lane ${request.lane} of rank ${request.senderRank}`;
      const text = `asked for ${asked}, this worker has rank ${generation.rank}`;
      return toStatus(new FleetError("USAGE", text));
    }
    const refusal = generation.admit(lane, request.receiverRank, call);
    return refusal === undefined ? undefined : toStatus(refusal);
  }

  #absent(request: PullRequest): Partial<StatusObject> {
    const newest = this.#newest.get(request.experimentId) ?? 0;
    if (newest >= request.generation) {
      const text = `${keyOf(request)} is over here; the newest is ${newest}`;
      return toStatus(new FleetError("GENERATION_ABORTED", text));
    }
    return { code: status.UNAVAILABLE, details: `has not joined ${keyOf(request)} yet` };
  }
}

function laneOf(lane: Lane): "small" | "bulk" | undefined {
  if (lane === Lane.LANE_SMALL) return "small";
  return lane === Lane.LANE_BULK ? "bulk" : undefined;
}

function keyOf(id: { readonly experimentId: string; readonly generation: number }): string {
  return `generation ${id.generation} of experiment ${id.experimentId}`;
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
