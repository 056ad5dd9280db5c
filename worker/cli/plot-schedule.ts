/** `worker plot-schedule`: the learning rate that a recipe will train with, as a picture. */

import { type Command, Option } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount, formatShortFigure, formatTable } from "../../proto/cli/format.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { positiveCount } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import type { DataRecipe, StageName } from "../../proto/recipe.ts";
import type { StageSchedule } from "../look/schedule-chart.ts";
import { openSplit } from "./open-split.ts";

interface ScheduleOptions {
  readonly set: readonly string[];
  readonly stage?: StageName;
  readonly datasetSize?: number;
  readonly out: string;
}

export function registerPlotSchedule(program: Command, context: CliContext): void {
  program
    .command("plot-schedule")
    .description("draw the learning rate of a recipe over its epochs")
    .argument("<recipe>", "name of a built-in recipe, or a .yaml file")
    .addOption(recipeSetting())
    .addOption(new Option("--stage <stage>", "only this one").choices(["pretrain", "linear"]))
    .option("--dataset-size <n>", "images to train on; counted when absent", positiveCount)
    .option("--out <file>", "picture, .png or .svg", "schedule.png")
    .addHelpText(
      "after",
      "\nExample: worker plot-schedule simclr_resnet50_16xb256-coslr-200e_in1k" +
        " --dataset-size 1281167",
    )
    .action((name: string, options: ScheduleOptions) =>
      runCommand(context, "info", () => plotSchedule(context, name, options)),
    );
}

async function plotSchedule(
  context: CliContext,
  name: string,
  { set, stage, datasetSize, out }: ScheduleOptions,
): Promise<void> {
  const recipe = await loadRecipe(name, set);
  // Drawing takes a moment to load; the other commands have no use for it.
  const { checkPicturePath, writeChart } = await import("../../proto/charts/write-chart.ts");
  const { planSchedule, scheduleChart } = await import("../look/schedule-chart.ts");
  await checkPicturePath(out);
  const images = datasetSize ?? (await countImages(context, recipe.data));
  const stages = stage === undefined ? recipe.stages : [stage];
  const schedules = stages.map((which) => planSchedule(recipe, which, images));
  await writeChart(out, scheduleChart(recipe, schedules));
  context.stdout.write(formatTable(HEAD, schedules.map(row)));
  context.stdout.write(`wrote ${out}\n`);
}

const HEAD = ["STAGE", "EPOCHS", "STEPS AN EPOCH", "FIRST", "PEAK", "AT EPOCH", "LAST"];

function row(schedule: StageSchedule): string[] {
  const { stage, epochs, stepsPerEpoch, points, peak, last } = schedule;
  return [
    stage,
    formatCount(epochs),
    formatCount(stepsPerEpoch),
    formatShortFigure(points[0]?.[1] ?? 0),
    formatShortFigure(peak[1]),
    formatShortFigure(peak[0]),
    formatShortFigure(last),
  ];
}

async function countImages(context: CliContext, data: DataRecipe): Promise<number> {
  try {
    return (await openSplit(context, data, "train")).count;
  } catch (thrown) {
    const { code, message, detail } = FleetError.from(thrown);
    const advice = "give --dataset-size to do without the images";
    throw new FleetError(code, `${message}; ${advice}`, detail, thrown);
  }
}
