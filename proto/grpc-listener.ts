/**
 * The listening socket of a gRPC server, and who is connected to it.
 *
 * grpc-js bounds neither how many connect nor how long they stay without a word, and it does not
 * close the socket of a reader that has stopped. So the sockets are this module's. A connection is
 * a stranger's until a call on it has shown what it must, the join token for one: strangers have
 * little room and little time.
 */

import net from "node:net";
import type { Server } from "@grpc/grpc-js";
import { listen } from "./listen.ts";
import { PeerQuota, type Quota } from "./peer-quota.ts";
import type { Transport } from "./transport.ts";

export interface ConnectionLimits {
  readonly all: Quota;
  /** Of those that have not shown yet that they belong here. */
  readonly strangers: Quota;
  /** How long they may take to. */
  readonly strangerMs: number;
}

export interface GrpcListener {
  readonly port: number;
  /** Listens no more. What is connected stays until {@link Connections.cutAll}. */
  stop(): Promise<void>;
}

interface Connection {
  readonly socket: net.Socket;
  /** It is no stranger's any more. */
  trust(): void;
}

/** The connections of a server by the name that calls give them, "ADDRESS:PORT". */
export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #onRefused: (peer: string) => void;
  readonly #all: PeerQuota;
  readonly #strangers: PeerQuota;
  readonly #open = new Map<string, Connection>();

  /** @param onRefused one was closed, because there are too many or because it said nothing */
  constructor(limits: ConnectionLimits, onRefused: (peer: string) => void) {
    this.#limits = limits;
    this.#onRefused = onRefused;
    this.#all = new PeerQuota(limits.all);
    this.#strangers = new PeerQuota(limits.strangers);
  }

  /** Takes a connection in, or closes it. */
  admit(socket: net.Socket): boolean {
    const { remoteAddress = "", remotePort = 0 } = socket;
    const peer = `${remoteAddress}:${remotePort}`;
    const leave = this.#all.take(remoteAddress);
    const settle = this.#strangers.take(remoteAddress);
    if (!leave || !settle) {
      leave?.();
      settle?.();
      this.#refuse(peer, socket);
      return false;
    }
    const patience = setTimeout(() => this.#refuse(peer, socket), this.#limits.strangerMs);
    const trust = (): void => {
      clearTimeout(patience);
      settle();
    };
    this.#open.set(peer, { socket, trust });
    // A socket that breaks reports that before it closes; who uses it has seen it, too.
    socket.on("error", () => {});
    socket.once("close", () => {
      trust();
      leave();
      this.#open.delete(peer);
    });
    return true;
  }

  /** A call of `peer` has shown that it belongs here. */
  trust(peer: string): void {
    this.#open.get(peer)?.trust();
  }

  /** Closes the connection without waiting for its reader. */
  cut(peer: string): void {
    this.#open.get(peer)?.socket.destroy();
  }

  cutAll(): void {
    for (const { socket } of this.#open.values()) socket.destroy();
  }

  #refuse(peer: string, socket: net.Socket): void {
    socket.destroy();
    this.#onRefused(peer);
  }
}

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openGrpcListener(options: {
  readonly server: Server;
  readonly connections: Connections;
  readonly transport: Transport;
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
}): Promise<GrpcListener> {
  const { server, connections, transport, host, port } = options;
  const injector = server.createConnectionInjector(transport.serverCredentials);
  const listener = net.createServer({ noDelay: true }, (socket) => {
    if (connections.admit(socket)) injector.injectConnection(socket);
  });
  const bound = await listen(listener, { host, port, what: "gRPC" });
  const stop = (): Promise<void> => new Promise((resolve) => listener.close(() => resolve()));
  return { port: bound, stop };
}
