/** Draws with Apache ECharts, without a browser: what is to be seen goes in, an SVG comes out. */

import { HeatmapChart, LineChart, ScatterChart } from "echarts/charts";
import {
  GraphicComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  MarkPointComponent,
  TitleComponent,
  VisualMapComponent,
} from "echarts/components";
import * as echarts from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { FONT, INK } from "./chart-style.ts";

export interface Chart {
  /** Pixels of the SVG; a PNG has more of them. */
  readonly width: number;
  readonly height: number;
  readonly title: string;
  readonly subtitle: string;
  /** Everything else, as in the manual of ECharts. */
  readonly option: Readonly<Record<string, unknown>>;
}

const TITLE_MARGIN = 20;

echarts.use([
  HeatmapChart,
  LineChart,
  ScatterChart,
  GraphicComponent,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  MarkPointComponent,
  TitleComponent,
  VisualMapComponent,
  SVGRenderer,
]);

/** The chart as an SVG document. */
export function drawChart(description: Chart): string {
  const { width, height, option } = description;
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({ ...baseOption(description), ...option });
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}

function baseOption({ title, subtitle, width }: Chart): echarts.EChartsCoreOption {
  const line = { width: width - 2 * TITLE_MARGIN, overflow: "truncate", fontFamily: FONT };
  return {
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: FONT, color: INK.text },
    title: {
      text: title,
      subtext: subtitle,
      left: TITLE_MARGIN,
      top: 12,
      textStyle: { ...line, fontSize: 19, fontWeight: "bold", color: INK.text },
      subtextStyle: { ...line, fontSize: 13, color: INK.faint },
    },
  };
}
