/** /metrics and /healthz of a worker. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import { FleetError } from "../../proto/errors.ts";

export interface WorkerHttp {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * @param options.port 0 takes any free port
 * @throws {FleetError} PORT_IN_USE
 */
export async function startHttpServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
}): Promise<WorkerHttp> {
  const { registry } = options;
  const server = createServer((request, response) => {
    if (request.url === "/healthz") {
      response.end("ok\n");
    } else if (request.url === "/metrics") {
      registry.metrics().then(
        (text) => response.setHeader("content-type", registry.contentType).end(text),
        () => response.writeHead(500).end(),
      );
    } else {
      response.writeHead(404).end("not found\n");
    }
  });
  await listen(server, options.host, options.port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === "EADDRINUSE";
      const message = isTaken
        ? `port ${port} on ${host} is in use; choose another with --http-port`
        : `cannot listen on ${host}:${port}: ${error.message}`;
      reject(new FleetError(isTaken ? "PORT_IN_USE" : "USAGE", message, {}, error));
    });
    server.listen(port, host, resolve);
  });
}
