/** A panel as Grafana has it. Beside what a spec says, all panels look alike. */

import {
  BigValueGraphMode,
  type DataSourceRef,
  GraphGradientMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import {
  DashboardLinkBuilder,
  DashboardLinkType,
  FieldColorBuilder,
  FieldColorModeId,
  type GridPos,
  type Panel,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";
import type { PanelSpec } from "./dashboard-spec.ts";
import { plainLink } from "./plain-link.ts";
import { runbookUrl } from "./runbook-url.ts";

/** Whichever Prometheus is chosen at the top of the dashboard. */
export const DATASOURCE: DataSourceRef = { type: "prometheus", uid: `\${datasource}` };

const WIDTH = { stat: 6, lines: 12 } as const;
const HEIGHT = { stat: 4, lines: 8 } as const;

/** In the grid's units. */
export function sizeOf({ look, width }: PanelSpec): Pick<GridPos, "w" | "h"> {
  const kind = look === "stat" ? "stat" : "lines";
  return { w: width ?? WIDTH[kind], h: HEIGHT[kind] };
}

export function renderPanel(spec: PanelSpec, place: { id: number; gridPos: GridPos }): Panel {
  const builder = spec.look === "stat" ? statOf(spec) : linesOf(spec);
  const { title, description, unit, min, max, alert } = spec;
  builder
    .id(place.id)
    .gridPos(place.gridPos)
    .datasource(DATASOURCE)
    .title(title)
    .description(description)
    .unit(unit)
    .targets(targetsOf(spec));
  if (min !== undefined) builder.min(min);
  if (max !== undefined) builder.max(max);
  if (alert !== undefined) builder.links([plainLink(runbookLink(alert))]);
  return builder.build();
}

/** Without colours of its own a stat is red from 80 on, whatever it shows. */
function statOf({ goodBelow, goodFrom }: PanelSpec): StatBuilder {
  const first = goodFrom === undefined ? "green" : "red";
  const edges = [
    { value: goodFrom, color: "green" },
    { value: goodBelow, color: "red" },
  ].flatMap(({ value, color }) => (value === undefined ? [] : [{ value, color }]));
  return new StatBuilder()
    .graphMode(BigValueGraphMode.Area)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .thresholds(
      new ThresholdsConfigBuilder()
        .mode(ThresholdsMode.Absolute)
        .steps([{ value: null, color: first }, ...edges]),
    );
}

function linesOf({ look }: PanelSpec): TimeseriesBuilder {
  const legend = new VizLegendOptionsBuilder()
    .showLegend(true)
    .displayMode(LegendDisplayMode.Table)
    .placement(LegendPlacement.Bottom)
    .calcs(["lastNotNull", "min", "max"]);
  const tooltip = new VizTooltipOptionsBuilder()
    .mode(TooltipDisplayMode.Multi)
    .sort(SortOrder.Descending);
  const builder = new TimeseriesBuilder()
    .legend(legend)
    .tooltip(tooltip)
    .lineWidth(1)
    .fillOpacity(look === "stacked" ? 40 : 5)
    .gradientMode(GraphGradientMode.None)
    .showPoints(VisibilityMode.Auto)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic));
  return look === "stacked"
    ? builder.stacking(new StackingConfigBuilder().mode(StackingMode.Normal))
    : builder;
}

function targetsOf({ queries }: PanelSpec): DataqueryBuilder[] {
  return queries.map(({ expr, legend }, index) =>
    new DataqueryBuilder()
      .refId(String.fromCharCode("A".charCodeAt(0) + index))
      .datasource(DATASOURCE)
      .expr(expr)
      .legendFormat(legend)
      .range(),
  );
}

function runbookLink(alert: string): DashboardLinkBuilder {
  return new DashboardLinkBuilder(`Runbook of ${alert}`)
    .type(DashboardLinkType.Link)
    .url(runbookUrl(alert))
    .targetBlank(true);
}
