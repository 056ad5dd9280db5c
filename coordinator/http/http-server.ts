/** HTTP for monitoring and orchestration: /metrics, /healthz, /readyz. It changes nothing. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Registry } from "prom-client";
import { FleetError } from "../../proto/errors.ts";
import { bindProblem } from "../control/control-server.ts";

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  /** What keeps the coordinator from working, for people; empty when nothing does. */
  readonly problems: () => Promise<readonly string[]>;
}

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer((request, response) => {
    answer(request, response, options).catch((thrown) => {
      response.statusCode = 500;
      response.end(`${FleetError.from(thrown).message}\n`);
    });
  });
  server.listen(options.port, options.host);
  try {
    await once(server, "listening");
  } catch (cause) {
    throw bindProblem(cause as Error, `${options.host}:${options.port}`, "HTTP");
  }

  const address = server.address();
  const port = typeof address === "object" && address ? address.port : options.port;
  return {
    port,
    close: async () => {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { registry, problems }: HttpServerOptions,
): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    return send(response, 405, "only GET and HEAD\n");
  }
  switch (pathname) {
    case "/metrics":
      response.setHeader("Content-Type", registry.contentType);
      return send(response, 200, await registry.metrics());
    case "/healthz":
      return send(response, 200, "ok\n");
    case "/readyz": {
      const found = await problems();
      if (found.length === 0) return send(response, 200, "ok\n");
      return send(response, 503, `${found.join("\n")}\n`);
    }
    default:
      return send(response, 404, "there are /metrics, /healthz and /readyz\n");
  }
}

function send(response: ServerResponse, statusCode: number, body: string): void {
  response.statusCode = statusCode;
  if (!response.hasHeader("Content-Type")) response.setHeader("Content-Type", "text/plain");
  response.end(body);
}
