/** The committed dashboards, as far as tests look into them. */

import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { createMetrics, type MetricsSource } from "../../coordinator/http/metrics.ts";
import { WorkerMetrics } from "../../worker/session/worker-metrics.ts";
import { ROOT } from "../support/sources.ts";

/** Whichever Prometheus the reader has chosen. */
export const DATASOURCE = { type: "prometheus", uid: `\${datasource}` } as const;

interface Target {
  readonly expr: string;
  readonly legendFormat: string;
  readonly datasource: unknown;
}

interface DashboardPanel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: unknown;
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly options?: { readonly legend?: { readonly showLegend: boolean } };
  readonly targets?: readonly Target[];
}

interface Variable {
  readonly name: string;
  readonly type: string;
  readonly query: unknown;
  readonly definition?: string;
  readonly datasource?: unknown;
  readonly multi: boolean;
  readonly includeAll: boolean;
  readonly allValue?: string;
}

export interface DashboardFile {
  readonly uid: string;
  readonly timezone: string;
  readonly refresh: string;
  readonly schemaVersion: number;
  readonly tags: readonly string[];
  readonly templating: { readonly list: readonly Variable[] };
  readonly panels: readonly DashboardPanel[];
}

export function readDashboards(): readonly DashboardFile[] {
  const folder = path.join(ROOT, "deploy", "grafana", "dashboards");
  return readdirSync(folder).map(
    (name) => JSON.parse(readFileSync(path.join(folder, name), "utf8")) as DashboardFile,
  );
}

/** Names of all metrics of a coordinator with a Redis of its own, and of a worker. */
export function exportedMetrics(): ReadonlySet<string> {
  // Names are given when a registry is made; nothing is read from the source before a scrape.
  const registries = [
    createMetrics({ stateDir: "/" } as MetricsSource),
    new WorkerMetrics("reference", "CPU", { counts: new Map() }, "/").registry,
  ];
  return new Set(registries.flatMap((one) => one.getMetricsAsArray().map(({ name }) => name)));
}
