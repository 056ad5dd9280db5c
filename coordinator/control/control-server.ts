/** The gRPC server that workers and operators call. */

import { logVerbosity, Server, type ServerInterceptor, setLogVerbosity } from "@grpc/grpc-js";
import {
  type FleetServiceServer,
  FleetServiceService,
  type OperatorServiceServer,
  OperatorServiceService,
} from "../../proto/gen/coordinator.ts";
import { type Connections, openGrpcListener } from "../../proto/grpc-listener.ts";
import { KEEPALIVE_OPTIONS } from "../../proto/limits.ts";
import type { Transport } from "../../proto/transport.ts";
import { REQUEST_BYTES_MAX } from "./control-limits.ts";

/** Enough for an answer under way. Sessions and watchers never end by themselves: they are cut. */
const SHUTDOWN_TIMEOUT_MS = 250;

/** What grpc-js would leave open; a worker and a command need one call at a time. */
const SERVER_OPTIONS = {
  ...KEEPALIVE_OPTIONS,
  "grpc.max_receive_message_length": REQUEST_BYTES_MAX,
  "grpc.max_concurrent_streams": 128,
  "grpc.max_connection_idle_ms": 60_000,
  /** Megabytes: headers and what waits to be sent. */
  "grpc-node.max_session_memory": 64,
} as const;

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
  readonly connections: Connections;
  readonly gate: ServerInterceptor;
  readonly fleet: FleetServiceServer;
  readonly operator: OperatorServiceServer;
}): Promise<ControlServer> {
  const { host, port, transport, connections, gate } = options;
  // grpc-js prints on standard error what it also throws.
  setLogVerbosity(logVerbosity.NONE);
  const server = new Server({ ...SERVER_OPTIONS, interceptors: [gate] });
  server.addService(FleetServiceService, options.fleet);
  server.addService(OperatorServiceService, options.operator);
  const listener = await openGrpcListener({ server, connections, transport, host, port });
  return {
    port: listener.port,
    close: async () => {
      const stopped = listener.stop();
      const cut = setTimeout(() => server.forceShutdown(), SHUTDOWN_TIMEOUT_MS);
      // An error means that it was cut, or closed before.
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(cut);
      connections.cutAll();
      await stopped;
    },
  };
}
