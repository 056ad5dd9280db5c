/**
 * A dashboard as Grafana has it: classic JSON, of the schema version that the SDK knows. The SDK
 * gives panels neither ids nor, in rows of several lines, places; both are given here.
 */

import {
  type Dashboard,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  type GridPos,
  type Panel,
  QueryVariableBuilder,
  RowBuilder,
  type RowPanel,
  VariableRefresh,
  VariableSort,
} from "@grafana/grafana-foundation-sdk/dashboard";
import type { DashboardSpec, VariableSpec } from "./dashboard-spec.ts";
import { plainLink } from "./plain-link.ts";
import { DATASOURCE, renderPanel, sizeOf } from "./render-panel.ts";

const COLUMNS = 24;
/** Whichever value, should too many be there to name them all in a query. */
const ANY = ".+";
const TAG = "simclr-fleet";

export function renderDashboard(spec: DashboardSpec): Dashboard {
  const dashboard = new DashboardBuilder(spec.title)
    .uid(`simclr-${spec.name}`)
    .description(spec.description)
    .tags([TAG])
    .timezone("browser")
    .refresh("10s")
    .time({ from: "now-1h", to: "now" })
    .tooltip(DashboardCursorSync.Crosshair)
    .link(plainLink(linkToTheOthers()))
    .withVariable(
      new DatasourceVariableBuilder("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes the fleet.")
        .type("prometheus"),
    );
  for (const variable of spec.variables) dashboard.withVariable(variableOf(variable));
  return { ...dashboard.build(), panels: placed(spec) };
}

/** Keeps the time and the choice of experiments. */
function linkToTheOthers(): DashboardLinkBuilder {
  return new DashboardLinkBuilder("simclr-fleet")
    .type(DashboardLinkType.Dashboards)
    .tags([TAG])
    .includeVars(true)
    .keepTime(true);
}

function variableOf({ name, label, description, series }: VariableSpec): QueryVariableBuilder {
  const query = `label_values(${series}, ${name})`;
  return new QueryVariableBuilder(name)
    .label(label)
    .description(description)
    .datasource(DATASOURCE)
    .query({ query, refId: "StandardVariableQuery" })
    .definition(query)
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.NaturalAsc)
    .multi(true)
    .includeAll(true)
    .allValue(ANY)
    .current({ selected: true, text: ["All"], value: ["$__all"] });
}

/** Rows and panels from the top down, and from left to right as long as there is room. */
function placed({ rows }: DashboardSpec): (Panel | RowPanel)[] {
  const panels: (Panel | RowPanel)[] = [];
  let y = 0;
  for (const { title, panels: specs } of rows) {
    panels.push(rowAt(title, { id: panels.length + 1, y }));
    y += 1;
    let next: GridPos = { x: 0, y, w: 0, h: 0 };
    for (const spec of specs) {
      const { w, h } = sizeOf(spec);
      const isFull = next.x + w > COLUMNS;
      const gridPos = isFull ? { x: 0, y: next.y + next.h, w, h } : { ...next, w, h };
      panels.push(renderPanel(spec, { id: panels.length + 1, gridPos }));
      next = { ...gridPos, x: gridPos.x + w };
    }
    y = next.y + next.h;
  }
  return panels;
}

function rowAt(title: string, { id, y }: { readonly id: number; readonly y: number }): RowPanel {
  return new RowBuilder(title).id(id).gridPos({ x: 0, y, w: COLUMNS, h: 1 }).build();
}
