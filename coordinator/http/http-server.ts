/** HTTP of the coordinator: /metrics, /healthz, /readyz. */

import type { Registry } from "prom-client";
import { type MonitoringServer, openMonitoringServer } from "../../proto/monitoring-server.ts";

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
  /** What keeps the coordinator from working, for people; empty when nothing does. */
  readonly problems: () => Promise<readonly string[]>;
}

/** @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's */
export function openHttpServer(options: HttpServerOptions): Promise<MonitoringServer> {
  const { host, port, registry, problems } = options;
  const pages = {
    "/metrics": async () => ({ type: registry.contentType, body: await registry.metrics() }),
    "/healthz": async () => ({ body: "ok\n" }),
    "/readyz": async () => {
      const found = await problems();
      return found.length === 0 ? { body: "ok\n" } : { status: 503, body: `${found.join("\n")}\n` };
    },
  };
  return openMonitoringServer({ host, port, pages });
}
