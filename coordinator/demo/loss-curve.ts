/** The picture of a pre-training run: loss and learning rate over the steps, as SVG and as PNG. */

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { LineChart } from "echarts/charts";
import {
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
} from "echarts/components";
import * as echarts from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import sharp from "sharp";
import { z } from "zod";
import { FleetError } from "../../proto/errors.ts";

/** One training step, as in scalars.jsonl. */
export interface StepScalars {
  /** Counts from 1. */
  readonly step: number;
  readonly loss: number;
  readonly lr: number;
}

export interface LossCurve {
  readonly title: string;
  readonly subtitle: string;
  readonly steps: readonly StepScalars[];
  /** Images of a whole step, N: a loss of ln(2N - 1) means that all pairs look alike. */
  readonly globalBatch: number;
}

const WIDTH = 900;
const HEIGHT = 600;
/** Pixels of the PNG per unit of the SVG: sharp on dense screens. */
const PNG_SCALE = 2;
/** Steps on either side that the smoothed line takes the mean of. */
const SMOOTHING_REACH = 5;

const FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";
const COLOURS = {
  raw: "#b9cbe8",
  mean: "#1f4e9c",
  bound: "#a33a2c",
  rate: "#2f7d4f",
  text: "#333",
};

const scalarsSchema = z.object({ step: z.int(), loss: z.number(), lr: z.number() });

echarts.use([
  LineChart,
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
  SVGRenderer,
]);

/**
 * Reads the training steps of a scalars.jsonl; lines about something else are passed over.
 *
 * @throws {FleetError} NOT_FOUND when there is no such file, or no step in it
 */
export async function readScalars(file: string): Promise<readonly StepScalars[]> {
  const text = await readFile(file, "utf8").catch((cause: Error) => {
    throw new FleetError("NOT_FOUND", `cannot read ${file}: ${cause.message}`, {}, cause);
  });
  const steps = text.split("\n").flatMap((line) => {
    const parsed = scalarsSchema.safeParse(parseLine(line));
    return parsed.success ? [parsed.data] : [];
  });
  if (steps.length === 0) throw new FleetError("NOT_FOUND", `${file} has no training steps`);
  return steps;
}

/** Draws the curve as an SVG document. */
export function drawLossCurve(curve: LossCurve): string {
  const chart = echarts.init(null, null, {
    renderer: "svg",
    ssr: true,
    width: WIDTH,
    height: HEIGHT,
  });
  try {
    chart.setOption(chartOption(curve));
    return chart.renderToSVGString();
  } finally {
    chart.dispose();
  }
}

/**
 * Writes `loss-curve.svg` and `loss-curve.png`.
 *
 * @returns their paths
 */
export async function writeLossCurve(
  folder: string,
  curve: LossCurve,
): Promise<{ readonly svg: string; readonly png: string }> {
  const paths = {
    svg: path.join(folder, "loss-curve.svg"),
    png: path.join(folder, "loss-curve.png"),
  };
  const svg = drawLossCurve(curve);
  await writeFile(paths.svg, svg);
  await sharp(Buffer.from(svg), { density: 72 * PNG_SCALE })
    .png()
    .toFile(paths.png);
  return paths;
}

function chartOption({
  title,
  subtitle,
  steps,
  globalBatch,
}: LossCurve): echarts.EChartsCoreOption {
  const bound = Math.log(2 * globalBatch - 1);
  const points = (value: (scalars: StepScalars) => number): (readonly [number, number])[] =>
    steps.map((scalars) => [scalars.step, value(scalars)]);
  const line = { type: "line", showSymbol: false, animation: false };
  return {
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: FONT, color: COLOURS.text },
    title: {
      text: title,
      subtext: subtitle,
      left: 20,
      top: 12,
      textStyle: { fontSize: 19, color: COLOURS.text, fontFamily: FONT },
      subtextStyle: { fontSize: 13, color: "#666", fontFamily: FONT },
    },
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
    xAxis: [0, 1].map((gridIndex) => stepAxis(gridIndex, steps.at(-1)?.step ?? 1)),
    yAxis: [valueAxis(0, "NT-Xent loss"), valueAxis(1, "learning rate")],
    series: [
      {
        ...line,
        name: "each step",
        data: points(({ loss }) => loss),
        lineStyle: { width: 1.2 },
        color: COLOURS.raw,
      },
      {
        ...line,
        name: "mean",
        data: smooth(points(({ loss }) => loss)),
        lineStyle: { width: 2.5 },
        color: COLOURS.mean,
        markLine: boundLine(bound, globalBatch),
      },
      {
        ...line,
        name: "rate",
        data: points(({ lr }) => lr),
        xAxisIndex: 1,
        yAxisIndex: 1,
        lineStyle: { width: 2 },
        color: COLOURS.rate,
      },
    ],
  };
}

function stepAxis(gridIndex: number, stepMax: number): object {
  const isBottom = gridIndex === 1;
  return {
    type: "value",
    gridIndex,
    min: 0,
    max: stepMax,
    ...(isBottom ? { name: "step", nameLocation: "middle", nameGap: 28 } : {}),
    nameTextStyle: { fontSize: 14 },
    axisLabel: { show: isBottom, fontSize: 12 },
    splitLine: { lineStyle: { color: "#eee" } },
  };
}

function valueAxis(gridIndex: number, name: string): object {
  return {
    type: "value",
    gridIndex,
    name,
    nameLocation: "middle",
    nameGap: 54,
    nameTextStyle: { fontSize: 14 },
    scale: gridIndex === 0,
    splitNumber: gridIndex === 0 ? 5 : 2,
    axisLabel: { fontSize: 12 },
    splitLine: { lineStyle: { color: "#eee" } },
  };
}

/** Where the loss stands when the embeddings say nothing. */
function boundLine(bound: number, globalBatch: number): object {
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

/** The mean of each point and its neighbours; towards the ends there are fewer of them. */
function smooth(points: readonly (readonly [number, number])[]): (readonly [number, number])[] {
  return points.map(([step], i) => {
    const reach = Math.min(SMOOTHING_REACH, i, points.length - 1 - i);
    const near = points.slice(i - reach, i + reach + 1);
    return [step, near.reduce((sum, [, value]) => sum + value, 0) / near.length];
  });
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // The last line of a run that was killed may be half a line.
    return undefined;
  }
}
