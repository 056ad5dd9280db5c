/**
 * HTTP for monitoring and orchestration. It changes nothing, reads no bodies, and lets nobody keep
 * a connection whose request does not come, or whose answer is not read.
 */

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { FleetError } from "./errors.ts";
import { listen } from "./listen.ts";

interface Page {
  readonly status?: number;
  /** Plain text by default. */
  readonly type?: string;
  readonly body: string;
}

/** What there is to see, by path. */
export type Pages = Readonly<Record<string, () => Promise<Page>>>;

export interface MonitoringServer {
  readonly port: number;
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

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openMonitoringServer(options: {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly pages: Pages;
}): Promise<MonitoringServer> {
  const { host, port, pages } = options;
  const server = createServer(SERVER_OPTIONS, (request, response) => {
    answer(request, pages).then(
      (page) => send(response, page),
      (thrown) => send(response, { status: 500, body: `${FleetError.from(thrown).message}\n` }),
    );
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.setTimeout(IDLE_MS);
  const bound = await listen(server, { host, port, what: "HTTP" });
  return {
    port: bound,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer({ method, url = "/" }: IncomingMessage, pages: Pages): Promise<Page> {
  if (method !== "GET" && method !== "HEAD") return { status: 405, body: "only GET and HEAD\n" };
  const [path = "/"] = url.split("?");
  const page = Object.hasOwn(pages, path) ? pages[path] : undefined;
  if (!page) return { status: 404, body: `there are ${Object.keys(pages).join(", ")}\n` };
  return await page();
}

function send(response: ServerResponse, { status = 200, type = "text/plain", body }: Page): void {
  if (status === 405) response.setHeader("Allow", "GET, HEAD");
  // A body that nobody reads must not be taken for the next request.
  if (status === 405) response.setHeader("Connection", "close");
  response.writeHead(status, { "Content-Type": type }).end(body);
}
