/** The dashboards, and what their files hold. */

import type { DashboardSpec } from "./dashboard-spec.ts";
import { EXPERIMENT_DASHBOARD } from "./experiment-dashboard.ts";
import { FLEET_DASHBOARD } from "./fleet-dashboard.ts";
import { RELIABILITY_DASHBOARD } from "./reliability-dashboard.ts";
import { renderDashboard } from "./render-dashboard.ts";

export const DASHBOARDS: readonly DashboardSpec[] = [
  FLEET_DASHBOARD,
  EXPERIMENT_DASHBOARD,
  RELIABILITY_DASHBOARD,
];

/** The text of each file below `dashboards/`, by its name. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  return new Map(
    DASHBOARDS.map((spec) => [
      `${spec.name}.json`,
      `${JSON.stringify(renderDashboard(spec), undefined, 2)}\n`,
    ]),
  );
}
