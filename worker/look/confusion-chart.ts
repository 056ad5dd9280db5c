/**
 * A confusion matrix as a heat map: how large a share of each true class was taken for which.
 *
 * Up to some fifty classes have their names at the axes; more are drawn as an image with a pixel
 * or a few for each pair, because an SVG of a million rectangles is too large for any viewer.
 */

import sharp from "sharp";
import { INK } from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import { formatCount } from "../../proto/cli/format.ts";
import { accuracyOf, type ConfusionMatrix, total } from "./confusion-matrix.ts";

const NAMED_MAX = 50;
/** With up to so many classes the cells say their numbers. */
const NUMBERED_MAX = 20;
/** Percent of the true class from which on a cell has the colour; few mistakes can be seen, too. */
const SHADES = [
  { from: 60, colour: "#08306b" },
  { from: 30, colour: "#1f6fb3" },
  { from: 10, colour: "#4f9bcb" },
  { from: 3, colour: "#8cc0de" },
  { from: 1, colour: "#bdd7ec" },
  { from: 0, colour: "#dfebf7" },
] as const;
const NOTHING = "#ffffff";
const MARGIN = { left: 60, top: 92, right: 140, bottom: 60 };
const PLOT = 640;
const CELL = { min: 15, max: 56 };
/** Widest name at an axis. */
const NAME = { width: 110, letter: 7 };

export async function confusionChart(matrix: ConfusionMatrix): Promise<Chart> {
  const size = matrix.classes.length;
  const cell = Math.min(CELL.max, Math.max(CELL.min, Math.floor(PLOT / size)));
  const plot = size <= NAMED_MAX ? size * cell : PLOT;
  const isNamed = size <= NAMED_MAX;
  const names = nameWidth(isNamed ? matrix.classes : [formatCount(size)]);
  const place = { left: MARGIN.left + names, top: MARGIN.top, width: plot, height: plot };
  const { images, top1 } = accuracyOf(matrix);
  return {
    width: place.left + plot + MARGIN.right,
    height: place.top + plot + names + MARGIN.bottom,
    title: `Confusion matrix, top-1 ${top1.toFixed(2)} %`,
    subtitle: `${matrix.recipe}: ${formatCount(images)} images, ${formatCount(size)} classes`,
    option: {
      ...(isNamed ? namedCells(matrix, names) : await pixels(matrix, place, names)),
      // Nothing may move the axes away from the image that lies under them.
      grid: { ...place, outerBoundsMode: "none" },
      visualMap: {
        type: "piecewise",
        dimension: 2,
        pieces: SHADES.map(({ from, colour }, i) => ({
          gt: from,
          lte: SHADES[i - 1]?.from ?? 100,
          label: `> ${from} % of class`,
          color: colour,
        })),
        outOfRange: { color: NOTHING },
        align: "left",
        left: place.left + plot + 14,
        top: place.top,
        itemWidth: 14,
        itemSymbol: "rect",
        textStyle: { fontSize: 12, color: INK.text },
      },
    },
  };
}

/** Room for the longest name, as far as it is shown. */
function nameWidth(names: readonly string[]): number {
  const letters = Math.max(...names.map((name) => name.length));
  return Math.min(NAME.width, letters * NAME.letter) + 10;
}

function namedCells({ classes, counts }: ConfusionMatrix, names: number): object {
  const cells = counts.flatMap((row, k) => {
    const all = Math.max(1, total(row));
    return row.map((images, j) => [j, k, (100 * images) / all, images]);
  });
  const isNumbered = classes.length <= NUMBERED_MAX;
  const axis = {
    type: "category",
    data: classes,
    axisTick: { show: false },
    axisLabel: {
      interval: 0,
      fontSize: 12,
      color: INK.text,
      width: NAME.width,
      overflow: "truncate",
    },
    splitArea: { show: false },
    nameLocation: "middle",
    nameGap: names + 18,
    nameTextStyle: { fontSize: 14, color: INK.text },
  };
  return {
    xAxis: { ...axis, name: "predicted", axisLabel: { ...axis.axisLabel, rotate: 90 } },
    yAxis: { ...axis, name: "true", inverse: true },
    series: [
      {
        type: "heatmap",
        data: cells.map((value) => ({ value, label: { color: inkOn(value[2] ?? 0) } })),
        label: { show: isNumbered, formatter: "{@[3]}", fontSize: 11 },
        itemStyle: { borderColor: INK.grid, borderWidth: 1 },
      },
    ],
  };
}

/** Dark cells want white digits. */
function inkOn(percent: number): string {
  return percent > 10 ? "#fff" : INK.text;
}

interface Place {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

async function pixels(
  matrix: ConfusionMatrix,
  { left, top, ...size }: Place,
  names: number,
): Promise<object> {
  const axis = {
    type: "value",
    min: 0,
    max: matrix.classes.length,
    nameLocation: "middle",
    nameGap: names + 18,
    nameTextStyle: { fontSize: 14, color: INK.text },
    axisLine: { onZero: false },
    axisLabel: { fontSize: 12, color: INK.text },
    splitLine: { show: false },
  };
  const style = { x: left, y: top, ...size, image: await encode(matrix) };
  return {
    xAxis: { ...axis, name: "predicted class" },
    yAxis: { ...axis, name: "true class", inverse: true },
    // The legend of the colours belongs to a series; this one shows nothing.
    series: [{ type: "scatter", data: [] }],
    graphic: [{ type: "image", z: -1, style }],
  };
}

async function encode({ counts }: ConfusionMatrix): Promise<string> {
  const size = counts.length;
  const data = new Uint8Array(size * size * 3);
  for (const [k, row] of counts.entries()) {
    const all = Math.max(1, total(row));
    for (const [j, images] of row.entries()) {
      data.set(rgbOf((100 * images) / all), (k * size + j) * 3);
    }
  }
  // Whole factors keep every pair a sharp square.
  const edge = size * Math.max(1, Math.floor((2 * PLOT) / size));
  const png = await sharp(data, { raw: { width: size, height: size, channels: 3 } })
    .resize(edge, edge, { kernel: "nearest" })
    .png()
    .toBuffer();
  return `data:image/png;base64,${png.toString("base64")}`;
}

function rgbOf(percent: number): readonly [red: number, green: number, blue: number] {
  const { colour } = SHADES.find(({ from }) => percent > from) ?? { colour: NOTHING };
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
