/** HTTP for monitoring and orchestration: it changes nothing, and reads no bodies. */

import type { IncomingMessage, ServerResponse } from "node:http";
import { FleetError } from "./errors.ts";
import { type GuardedHttp, openGuardedHttp } from "./guarded-http.ts";

interface Page {
  readonly status?: number;
  /** Plain text by default. */
  readonly type?: string;
  readonly body: string;
}

/** What there is to see, by path. */
export type Pages = Readonly<Record<string, () => Promise<Page>>>;

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export async function openMonitoringServer(options: {
  readonly host: string;
  /** 0 takes any free one. */
  readonly port: number;
  readonly pages: Pages;
}): Promise<GuardedHttp> {
  const { pages } = options;
  return await openGuardedHttp(options, (request, response) => {
    answer(request, pages).then(
      (page) => send(response, page),
      (thrown) => send(response, { status: 500, body: `${FleetError.from(thrown).message}\n` }),
    );
  });
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
