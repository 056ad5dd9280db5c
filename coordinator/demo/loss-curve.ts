/** The picture of a pre-training run: loss and learning rate over the steps, as SVG and as PNG. */

import path from "node:path";
import { acrossAxis, SERIES_COLOURS, upAxis } from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import { figureOf, type ScalarRow } from "../../proto/charts/read-scalars.ts";
import { type Point, smooth } from "../../proto/charts/smooth.ts";
import { writeChart } from "../../proto/charts/write-chart.ts";

export interface LossCurve {
  readonly title: string;
  readonly subtitle: string;
  readonly rows: readonly ScalarRow[];
  /** Images of a whole step, N: a loss of ln(2N - 1) means that all pairs look alike. */
  readonly globalBatch: number;
}

/** Steps on either side that the smoothed line takes the mean of. */
const SMOOTHING_REACH = 5;

const COLOURS = { raw: "#b9cbe8", mean: "#1f4e9c", bound: "#a33a2c", rate: SERIES_COLOURS[2] };

/**
 * Writes `loss-curve.svg` and `loss-curve.png`.
 *
 * @returns their paths
 * @throws {FleetError} STORAGE_FAILED
 */
export async function writeLossCurve(
  folder: string,
  curve: LossCurve,
): Promise<{ readonly svg: string; readonly png: string }> {
  const paths = {
    svg: path.join(folder, "loss-curve.svg"),
    png: path.join(folder, "loss-curve.png"),
  };
  const chart = lossChart(curve);
  for (const file of Object.values(paths)) await writeChart(file, chart);
  return paths;
}

export function lossChart({ title, subtitle, rows, globalBatch }: LossCurve): Chart {
  const points = (key: string): Point[] =>
    rows.flatMap((row) => {
      const value = figureOf(row, key);
      return value === undefined ? [] : [[row.step, value]];
    });
  const losses = points("loss");
  const line = { type: "line", showSymbol: false };
  const option = {
    legend: {
      right: 36,
      top: 24,
      data: ["each step", "mean"],
      icon: "rect",
      itemHeight: 3,
      itemGap: 20,
      textStyle: { fontSize: 13 },
    },
    grid: [
      { left: 80, right: 36, top: 84, height: 300 },
      { left: 80, right: 36, top: 428, height: 110 },
    ],
    xAxis: [0, 1].map((grid) =>
      acrossAxis(grid, { name: "step", max: rows.at(-1)?.step ?? 1, isLabelled: grid === 1 }),
    ),
    yAxis: [
      upAxis(0, { name: "NT-Xent loss", splitNumber: 5, isCropped: true }),
      upAxis(1, { name: "learning rate", splitNumber: 2, isCropped: false }),
    ],
    series: [
      {
        ...line,
        name: "each step",
        data: losses,
        lineStyle: { width: 1.2 },
        color: COLOURS.raw,
      },
      {
        ...line,
        name: "mean",
        data: smooth(losses, SMOOTHING_REACH),
        lineStyle: { width: 2.5 },
        color: COLOURS.mean,
        markLine: boundLine(globalBatch),
      },
      {
        ...line,
        name: "rate",
        data: points("lr"),
        xAxisIndex: 1,
        yAxisIndex: 1,
        lineStyle: { width: 2 },
        color: COLOURS.rate,
      },
    ],
  };
  return { width: 900, height: 600, title, subtitle, option };
}

/** Where the loss stands when the embeddings say nothing. */
function boundLine(globalBatch: number): object {
  const bound = Math.log(2 * globalBatch - 1);
  return {
    silent: true,
    symbol: "none",
    lineStyle: { color: COLOURS.bound, type: "dashed", width: 1.5 },
    label: {
      formatter: `chance: ln(2 x ${globalBatch} - 1) = ${bound.toFixed(2)}`,
      position: "insideEndTop",
      color: COLOURS.bound,
      fontSize: 13,
    },
    data: [{ yAxis: bound }],
  };
}
