/** HTTP of a worker: /metrics and /healthz. */

import type { Registry } from "prom-client";
import type { GuardedHttp } from "../../proto/guarded-http.ts";
import { openMonitoringServer } from "../../proto/monitoring-server.ts";

/**
 * @param options.port 0 takes any free port
 * @throws {FleetError} PORT_IN_USE, USAGE for a host that is not this machine's
 */
export function startHttpServer(options: {
  readonly host: string;
  readonly port: number;
  readonly registry: Registry;
}): Promise<GuardedHttp> {
  const { host, port, registry } = options;
  const pages = {
    "/metrics": async () => ({ type: registry.contentType, body: await registry.metrics() }),
    "/healthz": async () => ({ body: "ok\n" }),
  };
  return openMonitoringServer({ host, port, pages });
}
