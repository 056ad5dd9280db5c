/** Opens a listening socket, with errors that a person can act on. */

import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { FleetError } from "./errors.ts";
import { hostPort } from "./transport.ts";

/**
 * @param options.port 0 takes any free one
 * @param options.what names it in messages, e.g. "gRPC"
 * @returns the port
 * @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's
 */
export async function listen(
  server: Server,
  options: { readonly host: string; readonly port: number; readonly what: string },
): Promise<number> {
  const { host, port, what } = options;
  const address = hostPort(host, port);
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (thrown) {
    const cause = thrown as NodeJS.ErrnoException;
    if (cause.code === "EADDRINUSE") {
      const message = `${what} port ${address} is used by another process`;
      throw new FleetError("PORT_IN_USE", message, { address }, cause);
    }
    const message = `cannot listen for ${what} on ${address}: ${cause.message}`;
    throw new FleetError("USAGE", message, { address }, cause);
  }
  return (server.address() as AddressInfo).port;
}
