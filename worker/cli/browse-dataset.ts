/** `worker browse-dataset`: what a recipe's training sees, as a sheet of pictures. */

import { type Command, Option } from "commander";
import { type CliContext, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount } from "../../proto/cli/format.ts";
import { loadRecipe, recipeSetting } from "../../proto/cli/load-recipe.ts";
import { positiveCount } from "../../proto/cli/option-values.ts";
import { FleetError } from "../../proto/errors.ts";
import type { Recipe } from "../../proto/recipe.ts";
import type { Dataset } from "../data/dataset.ts";
import { BROWSE_MODES, type BrowseMode } from "../look/browse-mode.ts";
import { trainPlan, validationPlan } from "../session/load-plans.ts";
import { openSplit } from "./open-split.ts";

interface BrowseOptions {
  readonly set: readonly string[];
  readonly split: "train" | "val";
  readonly mode: BrowseMode;
  readonly showNumber: number;
  /** Counts from 1. */
  readonly epoch: number;
  readonly out: string;
}

/** More would make a file that no viewer opens. */
const SHOWN_MAX = 400;

export function registerBrowseDataset(program: Command, context: CliContext): void {
  program
    .command("browse-dataset")
    .description("draw images of a recipe's data set and the views that pre-training makes of them")
    .argument("<recipe>", "name of a built-in recipe, or a .yaml file")
    .addOption(recipeSetting())
    .addOption(
      new Option("--split <split>", "which images").choices(["train", "val"]).default("train"),
    )
    .addOption(
      new Option("--mode <mode>", "the files, their two views, or the steps to the first view")
        .choices(BROWSE_MODES)
        .default("views"),
    )
    .option("--show-number <n>", "how many images", positiveCount, 12)
    .option("--epoch <n>", "whose order and views to show; the first is 1", positiveCount, 1)
    .option("--out <file>", "picture, .png or .svg", "dataset.png")
    .addHelpText(
      "after",
      "\nExample: worker browse-dataset demo --set data.root=/data/demo --mode pipeline" +
        " --show-number 4",
    )
    .action((name: string, options: BrowseOptions) =>
      runCommand(context, "info", () => browseDataset(context, name, options)),
    );
}

async function browseDataset(
  context: CliContext,
  name: string,
  options: BrowseOptions,
): Promise<void> {
  const recipe = await loadRecipe(name, options.set);
  checkOptions(recipe, options);
  // Drawing takes a moment to load; the other commands have no use for it.
  const { checkPicturePath, writeChart } = await import("../../proto/charts/write-chart.ts");
  const { readSamples } = await import("../look/sample-pictures.ts");
  const { contactSheet } = await import("../look/contact-sheet.ts");
  const { split, mode, showNumber: count, epoch, out } = options;
  await checkPicturePath(out);
  const dataset = await openSplit(context, recipe.data, split);
  const alone = { rank: 0, worldSize: 1, startStep: 0 };
  // One rank goes through an epoch in the order of all of them.
  const inOrder = { ...recipe, pretrain: { ...recipe.pretrain, workers: 1 } };
  const plan =
    split === "val" ? validationPlan(recipe, alone) : trainPlan(inOrder, "pretrain", alone);
  const samples = await readSamples(dataset, plan, { mode, epoch: epoch - 1, count });
  const readable = samples.filter(({ problem }) => problem === undefined);
  for (const { name: file, problem } of samples) {
    if (problem !== undefined) context.stderr.write(`note: ${file} ${problem}\n`);
  }
  if (readable.length === 0) {
    throw new FleetError("DATA_INVALID", `none of ${samples.length} images can be read`);
  }
  await writeChart(
    out,
    await contactSheet(dataset.location, subtitle(recipe, dataset, options), samples),
  );
  context.stdout.write(`wrote ${out}\n`);
}

function checkOptions(recipe: Recipe, { split, mode, epoch, showNumber }: BrowseOptions): void {
  const { epochs } = recipe.pretrain;
  if (epoch > epochs) {
    throw new FleetError("USAGE", `--epoch ${epoch}: ${recipe.name} has ${epochs} epochs`);
  }
  if (split === "val" && mode === "pipeline") {
    throw new FleetError("USAGE", "--mode pipeline shows how training images are augmented");
  }
  if (showNumber > SHOWN_MAX) {
    throw new FleetError("USAGE", `--show-number ${showNumber}: at most ${SHOWN_MAX} on a sheet`);
  }
}

function subtitle(
  { name, seed, pretrain }: Recipe,
  { split, count, classes }: Dataset,
  { epoch }: BrowseOptions,
): string {
  const labels = classes.length === 0 ? "no labels" : `${formatCount(classes.length)} classes`;
  const order = split === "train" ? `, epoch ${epoch} of ${pretrain.epochs}, seed ${seed}` : "";
  return `${name}, ${split}: ${formatCount(count)} images, ${labels}${order}`;
}
