/** Images as points in the plane, a colour and a shape per class. */

import { INK, SERIES_COLOURS } from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import type { Place } from "./embed-features.ts";

export interface PlacedImages {
  readonly title: string;
  readonly subtitle: string;
  readonly classes: readonly string[];
  /** Per image: which of `classes`. */
  readonly labels: readonly number[];
  readonly places: readonly Place[];
}

const SHAPES = ["circle", "triangle"] as const;
/** Classes that have a sign of their own: a colour and a shape. */
export const SIGNS = SHAPES.length * SERIES_COLOURS.length;
const PLOT = { left: 24, top: 76, size: 720 };
const LEGEND_WIDTH = 220;
/** Empty rim around the points, as a share of their extent. */
const RIM = 0.04;

export function tsneChart({ title, subtitle, classes, labels, places }: PlacedImages): Chart {
  const range = (axis: 0 | 1) => {
    const values = places.map((place) => place[axis]);
    const [min, max] = [Math.min(...values), Math.max(...values)];
    const rim = RIM * (max - min);
    // Coordinates mean nothing; only who is near whom does.
    return { type: "value", min: min - rim, max: max + rim, show: false };
  };
  return {
    width: PLOT.left + PLOT.size + LEGEND_WIDTH,
    height: PLOT.top + PLOT.size + 24,
    title,
    subtitle,
    option: {
      grid: {
        left: PLOT.left,
        top: PLOT.top,
        width: PLOT.size,
        height: PLOT.size,
        show: true,
        borderColor: INK.axis,
      },
      xAxis: range(0),
      yAxis: range(1),
      legend: {
        orient: "vertical",
        left: PLOT.left + PLOT.size + 16,
        top: PLOT.top,
        itemWidth: 14,
        itemHeight: 12,
        itemGap: 8,
        textStyle: { fontSize: 13, width: LEGEND_WIDTH - 60, overflow: "truncate" },
      },
      series: classes.map((name, k) => ({
        type: "scatter",
        name,
        data: places.filter((_, i) => labels[i] === k),
        symbol: SHAPES[Math.floor(k / SERIES_COLOURS.length) % SHAPES.length],
        symbolSize: 6,
        color: SERIES_COLOURS[k % SERIES_COLOURS.length],
        itemStyle: { opacity: 0.8 },
      })),
    },
  };
}
