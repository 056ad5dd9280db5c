/** Curves of what runs have logged: a panel per figure, a colour per run. */

import { acrossAxis, SERIES_COLOURS, upAxis } from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import { figureOf, type ScalarRow } from "../../proto/charts/read-scalars.ts";
import { type Point, smooth } from "../../proto/charts/smooth.ts";
import { formatCount } from "../../proto/cli/format.ts";

export interface Run {
  readonly legend: string;
  readonly rows: readonly ScalarRow[];
}

export interface CurveOptions {
  /** What to draw, a panel each. */
  readonly keys: readonly string[];
  readonly across: "epoch" | "step";
  /** Steps on either side that a line is the mean of; by the number of steps when absent. */
  readonly smoothing: number | undefined;
}

/** Up to so many points, as of validations, each is marked; more of them make a line. */
const MARKED_POINTS_MAX = 60;
/** With more points than that, their mean is drawn over them. */
const RAW_POINTS_MAX = 200;
const PANEL = { top: 92, height: 240, gap: 34 };
const WIDTH = 1_000;
const LEGEND = { columns: 3, textWidth: 230, rowHeight: 24 };

/** Every figure that some run has, in the order of their first lines. */
export function keysOf(runs: readonly Run[]): readonly string[] {
  const keys = new Set<string>();
  for (const row of runs.flatMap(({ rows }) => rows)) {
    for (const key in row) if (figureOf(row, key) !== undefined) keys.add(key);
  }
  return [...keys];
}

/** What people look at first: loss, the top-1 accuracies, learning rate. */
export function usualKeys(known: readonly string[]): readonly string[] {
  const accuracies = known.filter((key) => /\/top1\b|\/top1_/.test(key));
  return ["loss", ...accuracies, "lr"].filter((key) => known.includes(key));
}

/** What a run says of one figure. */
export function pointsOf({ rows }: Run, key: string, across: CurveOptions["across"]): Point[] {
  return rows.flatMap((row) => {
    const x = figureOf(row, across);
    const y = figureOf(row, key);
    return x === undefined || y === undefined ? [] : [[x, y]];
  });
}

export function curvesChart(runs: readonly Run[], options: CurveOptions): Chart {
  const { keys, across } = options;
  const ends = runs.flatMap((run) =>
    keys.map((key) => pointsOf(run, key, across).at(-1)?.[0] ?? 0),
  );
  // A run that goes on is in the middle of an epoch; below the axis 14.4872 would be of no use.
  const end = Math.max(...ends);
  const max = end > 1 ? Math.ceil(end) : end;
  const legendHeight = (Math.ceil(runs.length / LEGEND.columns) - 1) * LEGEND.rowHeight;
  const top = (panel: number): number =>
    PANEL.top + legendHeight + panel * (PANEL.height + PANEL.gap);
  const lines = keys.flatMap((key, panel) =>
    runs.flatMap((run, i) => linesOf(run, { key, panel, colour: colourOf(i), ...options })),
  );
  const [first] = runs;
  const isAlone = first !== undefined && runs.length === 1;
  const option = {
    legend: runLegend(runs),
    grid: keys.map((_, i) => ({ left: 80, right: 36, top: top(i), height: PANEL.height })),
    xAxis: keys.map((_, i) =>
      acrossAxis(i, { name: across, max, isLabelled: i === keys.length - 1 }),
    ),
    yAxis: keys.map((key, i) =>
      upAxis(i, { name: key, splitNumber: 5, isCropped: key !== "lr", nameGap: 58 }),
    ),
    series: lines,
  };
  return {
    width: WIDTH,
    height: top(keys.length - 1) + PANEL.height + 60,
    title: isAlone ? first.legend : `${runs.length} runs`,
    subtitle: isAlone ? `${formatCount(first.rows.at(-1)?.step ?? 0)} steps` : "",
    option,
  };
}

function runLegend(runs: readonly Run[]): object {
  return {
    show: runs.length > 1,
    data: runs.map(({ legend }) => legend),
    top: 50,
    left: 76,
    right: 36,
    icon: "rect",
    itemHeight: 3,
    itemGap: 20,
    textStyle: { fontSize: 13, width: LEGEND.textWidth, overflow: "truncate" },
  };
}

function colourOf(run: number): string {
  return SERIES_COLOURS[run % SERIES_COLOURS.length] ?? "";
}

/** Few points marked as they are; many as their mean, with themselves faintly below it. */
function linesOf(
  run: Run,
  options: CurveOptions & {
    readonly key: string;
    readonly panel: number;
    readonly colour: string;
  },
): object[] {
  const { key, panel, colour, across, smoothing } = options;
  const points = pointsOf(run, key, across);
  const isMarked = points.length <= MARKED_POINTS_MAX;
  const usual = points.length > RAW_POINTS_MAX ? Math.ceil(points.length / RAW_POINTS_MAX) : 0;
  const reach = isMarked || key === "lr" ? 0 : (smoothing ?? usual);
  const line = {
    type: "line",
    name: run.legend,
    xAxisIndex: panel,
    yAxisIndex: panel,
    color: colour,
    symbolSize: 6,
    showSymbol: isMarked,
    // As many points as there are pixels.
    ...(points.length > 2 * WIDTH ? { sampling: "lttb" } : {}),
  };
  if (reach === 0) return [{ ...line, data: points, lineStyle: { width: 2 } }];
  const faint = { width: 1, opacity: 0.3 };
  return [
    { ...line, data: points, lineStyle: faint },
    { ...line, data: smooth(points, reach), lineStyle: { width: 2.2 } },
  ];
}
