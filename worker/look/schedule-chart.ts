/** The learning rate of a recipe's stages, over their epochs, before anything is trained. */

import {
  acrossAxis,
  INK,
  SERIES_COLOURS,
  textMark,
  upAxis,
} from "../../proto/charts/chart-style.ts";
import type { Chart } from "../../proto/charts/draw-chart.ts";
import type { Point } from "../../proto/charts/smooth.ts";
import { formatCount, formatShortFigure } from "../../proto/cli/format.ts";
import { FleetError } from "../../proto/errors.ts";
import type { Recipe, StageName } from "../../proto/recipe.ts";
import { stepsPerEpoch } from "../data/sampler.ts";
import { learningRateAt, type TrainingLength } from "../optim/learning-rate.ts";

/** The course of the rate in one stage. At an epoch stands the rate of the step that follows. */
export interface StageSchedule {
  readonly stage: StageName;
  readonly epochs: number;
  readonly stepsPerEpoch: number;
  /** [epochs gone by, rate]: every step where there are few, else where the line bends. */
  readonly points: readonly Point[];
  /** The highest rate and where it is reached first. */
  readonly peak: Point;
  /** The rate of the last step. */
  readonly last: number;
  /** Undefined without a warm-up. */
  readonly warmupEpochs: number | undefined;
}

/** Steps, evenly spread, that a line is drawn through beside those where it bends. */
const EVEN_STEPS = 2_000;
const PANEL = { top: 100, height: 280, gap: 100 };

/**
 * @param images of the training split
 * @throws {FleetError} DATA_INVALID when they make no step
 */
export function planSchedule(recipe: Recipe, stage: StageName, images: number): StageSchedule {
  const { epochs, workers, batchPerWorker, dropLast, optimizer, schedule } = recipe[stage];
  const perEpoch = stepsPerEpoch({ count: images, worldSize: workers, batchPerWorker, dropLast });
  if (perEpoch === 0) {
    const batch = `${workers} x ${batchPerWorker}`;
    const problem = `${images} images make no full batch of ${batch}, and dropLast is set`;
    throw new FleetError("DATA_INVALID", `${stage}: ${problem}`);
  }
  const length: TrainingLength = { baseLr: optimizer.lr, epochs, stepsPerEpoch: perEpoch };
  const warmupSteps = Math.round(schedule.warmupEpochs * perEpoch);
  const points = stepsToDraw(epochs, perEpoch, warmupSteps).map(
    (step): Point => [step / perEpoch, learningRateAt(schedule, length, step)],
  );
  const peak = points.reduce((best, point) => (point[1] > best[1] ? point : best));
  return {
    stage,
    epochs,
    stepsPerEpoch: perEpoch,
    points,
    peak,
    last: points.at(-1)?.[1] ?? 0,
    warmupEpochs: schedule.warmupEpochs > 0 ? schedule.warmupEpochs : undefined,
  };
}

/** In order, each once: both ends of every epoch and of the warm-up, and many between them. */
function stepsToDraw(epochs: number, perEpoch: number, warmupSteps: number): number[] {
  const total = epochs * perEpoch;
  const ends = Array.from({ length: epochs }, (_, epoch) => [
    epoch * perEpoch,
    (epoch + 1) * perEpoch - 1,
  ]);
  const even = Array.from({ length: Math.min(total, EVEN_STEPS) }, (_, i) =>
    Math.floor((i * total) / Math.min(total, EVEN_STEPS)),
  );
  const steps = new Set([...ends.flat(), ...even, warmupSteps - 1, warmupSteps]);
  return [...steps].filter((step) => step >= 0 && step < total).sort((a, b) => a - b);
}

/** A panel per stage, one below the other. */
export function scheduleChart(recipe: Recipe, schedules: readonly StageSchedule[]): Chart {
  const option = {
    graphic: schedules.map((schedule, i) => heading(recipe, schedule, panelTop(i))),
    grid: schedules.map((_, i) => ({
      left: 96,
      right: 36,
      top: panelTop(i),
      height: PANEL.height,
    })),
    xAxis: schedules.map(({ epochs }, i) =>
      acrossAxis(i, { name: "epoch", max: epochs, isLabelled: true }),
    ),
    yAxis: schedules.map((_, i) => ({
      ...upAxis(i, { name: "learning rate", splitNumber: 5, isCropped: false, nameGap: 66 }),
      boundaryGap: [0, "12%"],
    })),
    series: schedules.map(series),
  };
  const last = panelTop(schedules.length - 1);
  return {
    width: 900,
    height: last + PANEL.height + 60,
    title: recipe.name,
    subtitle: "the learning rate that its steps will have",
    option,
  };
}

function panelTop(panel: number): number {
  return PANEL.top + panel * (PANEL.height + PANEL.gap);
}

function heading(
  recipe: Recipe,
  { stage, stepsPerEpoch: steps }: StageSchedule,
  top: number,
): object {
  const { workers, batchPerWorker, optimizer, schedule } = recipe[stage];
  const decay = schedule.decay === "constant" ? "constant" : `cosine per ${schedule.decayPer}`;
  const text =
    `${stage}: ${workers} x ${batchPerWorker} images, ${formatCount(steps)} steps an epoch, ` +
    `${optimizer.type.toUpperCase()}, ${decay}`;
  return textMark(text, { x: 96, y: top - 26, width: 760, fontSize: 13, fill: INK.text });
}

function series(schedule: StageSchedule, i: number): object {
  const { points, peak, warmupEpochs, epochs, last } = schedule;
  const end: Point = [epochs, last];
  const mark = (coord: Point, text: string) => {
    const position = coord[0] > epochs / 2 ? "left" : "right";
    const style = { position, offset: [0, -14], fontSize: 13, color: INK.text };
    return { coord, label: { show: true, formatter: text, ...style } };
  };
  return {
    type: "line",
    name: schedule.stage,
    data: [...points, end],
    xAxisIndex: i,
    yAxisIndex: i,
    showSymbol: false,
    color: SERIES_COLOURS[i],
    lineStyle: { width: 2 },
    markPoint: {
      symbol: "circle",
      symbolSize: 8,
      data: [
        mark(peak, `peak ${formatShortFigure(peak[1])}`),
        mark(end, `last ${formatShortFigure(last)}`),
      ],
    },
    ...(warmupEpochs === undefined ? {} : { markLine: warmupLine(warmupEpochs) }),
  };
}

function warmupLine(warmupEpochs: number): object {
  return {
    silent: true,
    symbol: "none",
    lineStyle: { color: INK.axis, type: "dashed", width: 1.2 },
    label: {
      formatter: `warm-up ends: epoch ${formatShortFigure(warmupEpochs)}`,
      position: "insideStartBottom",
      color: INK.faint,
      fontSize: 12,
    },
    data: [{ xAxis: warmupEpochs }],
  };
}
