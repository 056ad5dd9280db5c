/** /metrics, /healthz and /readyz: for Prometheus and for orchestration. They ask for nothing. */

import { type RequestHandler, Router } from "express";
import type { Registry } from "prom-client";

export interface MonitoringOptions {
  readonly registry: Registry;
  /** What keeps the coordinator from working, for people; empty when nothing does. */
  readonly problems: () => Promise<readonly string[]>;
}

export function monitoringRoutes({ registry, problems }: MonitoringOptions): Router {
  const routes = Router({ caseSensitive: true, strict: true });
  routes.all(["/metrics", "/healthz", "/readyz"], readOnly);
  routes.get("/metrics", async (_, response) => {
    response.type(registry.contentType).end(await registry.metrics());
  });
  routes.get("/healthz", (_, response) => {
    response.type("text/plain").end("ok\n");
  });
  routes.get("/readyz", async (_, response) => {
    const found = await problems();
    const isReady = found.length === 0;
    response.status(isReady ? 200 : 503).type("text/plain");
    response.end(isReady ? "ok\n" : `${found.join("\n")}\n`);
  });
  return routes;
}

/** Lets only GET and HEAD pass. */
export const readOnly: RequestHandler = ({ method }, response, next) => {
  if (method === "GET" || method === "HEAD") return next();
  // A body that nobody reads must not be taken for the next request.
  response.set({ Allow: "GET, HEAD", Connection: "close" }).status(405).type("text/plain");
  response.end("only GET and HEAD\n");
};
