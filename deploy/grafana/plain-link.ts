/** Links of dashboards and panels. */

import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type {
  DashboardLink,
  DashboardLinkBuilder,
} from "@grafana/grafana-foundation-sdk/dashboard";

/** The SDK would hide each link in the menu of the dashboard's controls. */
export function plainLink(builder: DashboardLinkBuilder): Builder<DashboardLink> {
  const { placement: _, ...link } = builder.build();
  return { build: () => link };
}
