/**
 * What the demo found out: figures of its three stages, as a table for people and as JSON. Pure.
 */

import { z } from "zod";
import { formatDuration, formatFigure, formatTable } from "../../proto/cli/format.ts";

const trainingSchema = z.object({
  steps: z.int(),
  images_per_s: z.number(),
  wall_s: z.number(),
  loss_first: z.number(),
  loss_last: z.number(),
});
const pretrainingSchema = trainingSchema.extend({ "knn/top1_k20": z.number().optional() });
const evaluationSchema = trainingSchema.extend({ top1: z.number(), top5: z.number() });

type Training = z.output<typeof trainingSchema>;
/** Of a pretrain stage's result.json. Seconds, and percent by the nearest neighbours. */
type Pretraining = z.output<typeof pretrainingSchema>;
/** Of a linear stage's result.json. Percent and seconds. */
export type Evaluation = z.output<typeof evaluationSchema>;

export interface Summary {
  readonly pretrain: Pretraining;
  /** Linear evaluation of the pre-trained backbone. */
  readonly linear: Evaluation;
  /** The same on the backbone as it was drawn at random. */
  readonly random: Evaluation;
  readonly classes: number;
  /** From the command's start to its end. */
  readonly seconds: number;
}

export const parsePretraining = (result: unknown): Pretraining => pretrainingSchema.parse(result);
export const parseEvaluation = (result: unknown): Evaluation => evaluationSchema.parse(result);

/** Percentage points of top-1 that pre-training is worth. */
export function gainPoints({ linear, random }: Summary): number {
  return linear.top1 - random.top1;
}

export function formatSummary(summary: Summary): string {
  const { pretrain, linear, random, classes, seconds } = summary;
  const head = [
    "STAGE",
    "BACKBONE",
    "LOSS FIRST",
    "LOSS LAST",
    "TOP-1",
    "TOP-5",
    "IMAGES/S",
    "TIME",
  ];
  const table = formatTable(head, [
    row("pretrain", "random at first", pretrain),
    row("linear", "pre-trained", linear),
    row("linear", "random", random),
  ]);
  const gain = gainPoints(summary).toFixed(1);
  const chance = (100 / classes).toFixed(1);
  const knn = pretrain["knn/top1_k20"];
  const neighbours =
    knn === undefined
      ? ""
      : "Without a classifier, an image's 20 nearest neighbours name its class in " +
        `${knn.toFixed(1)} % of cases.\n`;
  return (
    `${table}\n${neighbours}` +
    `Pre-training is worth ${gain} points of top-1 (guessing gives ${chance} %). ` +
    `Everything took ${formatDuration(seconds)}.\n`
  );
}

function row(stage: string, backbone: string, result: Training & Partial<Evaluation>): string[] {
  const percent = (value?: number): string => (value === undefined ? "" : `${value.toFixed(2)} %`);
  return [
    stage,
    backbone,
    formatFigure(result.loss_first),
    formatFigure(result.loss_last),
    percent(result.top1),
    percent(result.top5),
    formatFigure(result.images_per_s),
    formatDuration(result.wall_s),
  ];
}
