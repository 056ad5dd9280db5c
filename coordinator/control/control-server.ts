/** The gRPC server that workers and operators call. */

import { logVerbosity, Server, setLogVerbosity } from "@grpc/grpc-js";
import { FleetError } from "../../proto/errors.ts";
import {
  type FleetServiceServer,
  FleetServiceService,
  type OperatorServiceServer,
  OperatorServiceService,
} from "../../proto/gen/coordinator.ts";
import { KEEPALIVE_OPTIONS } from "../../proto/limits.ts";
import { hostPort, type Transport } from "../../proto/transport.ts";

/** Enough for an answer under way. Sessions and watchers never end by themselves: they are cut. */
const SHUTDOWN_TIMEOUT_MS = 250;

export interface ControlServer {
  /** The port that it listens on, also where 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openControlServer(options: {
  readonly host: string;
  readonly port: number;
  readonly transport: Transport;
  readonly fleet: FleetServiceServer;
  readonly operator: OperatorServiceServer;
}): Promise<ControlServer> {
  // grpc-js prints on standard error what it also throws.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({ ...KEEPALIVE_OPTIONS });
  server.addService(FleetServiceService, options.fleet);
  server.addService(OperatorServiceService, options.operator);

  const address = hostPort(options.host, options.port);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, options.transport.serverCredentials, (error, bound) => {
      if (error) reject(bindProblem(error, address, "gRPC"));
      else resolve(bound);
    });
  });
  return { port, close: () => closeServer(server) };
}

async function closeServer(server: Server): Promise<void> {
  const cut = setTimeout(() => server.forceShutdown(), SHUTDOWN_TIMEOUT_MS);
  // An error means that it was cut, or closed before.
  await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  clearTimeout(cut);
}

/** What a failed listen means to a person. */
export function bindProblem(cause: Error, address: string, what: string): FleetError {
  if (cause.message.includes("EADDRINUSE")) {
    const message = `${what} port ${address} is used by another process`;
    return new FleetError("PORT_IN_USE", message, { address }, cause);
  }
  const message = `cannot listen for ${what} on ${address}: ${cause.message}`;
  return new FleetError("USAGE", message, { address }, cause);
}
