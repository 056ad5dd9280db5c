/**
 * A plain HTTP server that lets nobody keep a connection whose request does not come, or whose
 * answer is not read.
 */

import { createServer, type RequestListener } from "node:http";
import { listen } from "./listen.ts";

export interface GuardedHttp {
  readonly port: number;
  /** Ends the connections, too. */
  close(): Promise<void>;
}

const SERVER_OPTIONS = {
  maxHeaderSize: 8_192,
  headersTimeout: 2_000,
  requestTimeout: 2_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 500,
} as const;
/** Beyond these a connection is closed at once; those that do nothing last seconds only. */
const CONNECTIONS_MAX = 1_024;
const IDLE_MS = 10_000;

/**
 * @param options.port 0 takes any free one
 * @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's
 */
export async function openGuardedHttp(
  options: { readonly host: string; readonly port: number },
  handle: RequestListener,
): Promise<GuardedHttp> {
  const server = createServer(SERVER_OPTIONS, handle);
  server.maxConnections = CONNECTIONS_MAX;
  server.setTimeout(IDLE_MS);
  const port = await listen(server, { ...options, what: "HTTP" });
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
